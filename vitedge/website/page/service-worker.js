// Keeps the site for when there is no network, and allows it threads (see app.mjs).
const DIGEST = "%DIGEST%";
const FIRST = ["./", "index.html", "style.css", "app.mjs", "gpu.mjs", "pixels.mjs", "site.webmanifest", "icon.svg"];
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

self.addEventListener("install", (event) => {
  self.skipWaiting();
  const fetched = FIRST.map((place) => new Request(place, { cache: "reload" }));
  event.waitUntil(caches.open(DIGEST).then((cache) => cache.addAll(fetched)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const mine = (await caches.keys()).filter((key) => key.startsWith("vitedge-"));
      await Promise.all(mine.filter((key) => key !== DIGEST).map((key) => caches.delete(key)));
      await self.clients.claim();
    })(),
  );
});

function withHeaders(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}

async function answer(request) {
  const cache = await caches.open(DIGEST);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return withHeaders(kept);
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response.ok ? withHeaders(response) : response;
}

self.addEventListener("fetch", (event) => {
  const isOwn = new URL(event.request.url).origin === self.location.origin;
  if (event.request.method === "GET" && isOwn) event.respondWith(answer(event.request));
});
