// A button at each command, which puts it on the clipboard.
"use strict";
for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const words = block.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      // A browser that keeps the clipboard from pages leaves the words selected, to be copied by hand.
      getSelection().selectAllChildren(block.querySelector("code"));
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
      return;
    }
    button.textContent = "Copied";
  });
  block.append(button);
}
