#!/usr/bin/env bash
# A Vulkan loader and driver that compute on the CPU (SwiftShader), out of Debian's Chromium: 6 MB,
# nothing is installed, no root. With them tflite-gpu and onnx-webgpu run where there is no GPU.
#
#   scripts/software_vulkan.sh FOLDER
#   LD_LIBRARY_PATH=FOLDER VK_ICD_FILENAMES=FOLDER/vk_swiftshader_icd.json vitedge targets
#
# Debian 12's Mesa is no way round: LiteRT needs a younger one than its 22.3.
set -euo pipefail

files=(libvulkan.so.1 libvk_swiftshader.so vk_swiftshader_icd.json)
folder=$(realpath -m "$1")
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
cd "$unpacked"

# A fresh machine or container may never have fetched its package lists.
download() { apt-get -qq -o APT::Sandbox::User=root download chromium-common; }
if ! download 2>/dev/null; then
    apt-get -qq update
    download
fi
dpkg -x chromium-common_*.deb .
mkdir -p "$folder"
for file in "${files[@]}"; do cp "usr/lib/chromium/$file" "$folder/"; done
