"""The devices of Vulkan, and whether they are real: a software driver calls itself a CPU."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from vitedge.runtimes import Availability, Readiness

_REMEDY = (
    "Install the GPU's Vulkan driver and loader (Debian: apt install libvulkan1 and the "
    "vendor's or Mesa's driver)"
)

# Vulkan 1.0 specification: VkStructureType, VkPhysicalDeviceType, VkPhysicalDeviceProperties.
_INSTANCE_CREATE_INFO = 1
_DEVICE_TYPE_CPU = 4
_PROPERTIES_BYTES = 824
_DEVICE_TYPE_AT, _DEVICE_NAME_AT, _DEVICE_NAME_BYTES = 16, 20, 256


@dataclass(frozen=True)
class VulkanDevice:
    """A physical device in the driver's words."""

    name: str
    is_software: bool


class _InstanceCreateInfo(ctypes.Structure):
    _fields_ = (
        ("sType", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("pApplicationInfo", ctypes.c_void_p),
        ("enabledLayerCount", ctypes.c_uint32),
        ("ppEnabledLayerNames", ctypes.c_void_p),
        ("enabledExtensionCount", ctypes.c_uint32),
        ("ppEnabledExtensionNames", ctypes.c_void_p),
    )


def vulkan_availability(found: str) -> Availability:
    """Whether something that computes through Vulkan can run here.

    Args:
        found: The package and its version, for the words.
    """
    try:
        return readiness_on(found, vulkan_devices())
    except OSError as error:
        return Availability(Readiness.MISSING, f"{found}: {error}", _REMEDY)


def readiness_on(found: str, devices: tuple[VulkanDevice, ...]) -> Availability:
    """Ready with a graphics processor, emulated with a software driver only."""
    if not devices:
        return Availability(Readiness.MISSING, f"{found}: Vulkan finds no device", _REMEDY)
    hardware = [device for device in devices if not device.is_software]
    names = ", ".join(device.name for device in hardware or devices)
    readiness = Readiness.READY if hardware else Readiness.EMULATED
    return Availability(readiness, f"{found} on {names}")


def vulkan_devices() -> tuple[VulkanDevice, ...]:
    """All physical devices that the Vulkan loader finds.

    Raises:
        OSError: There is no Vulkan loader; the message is the dynamic linker's.
    """
    vulkan = ctypes.CDLL("libvulkan.so.1")
    instance = ctypes.c_void_p()
    info = _InstanceCreateInfo(sType=_INSTANCE_CREATE_INFO)
    if vulkan.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)) != 0:
        return ()
    try:
        count = ctypes.c_uint32()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        return tuple(_describe(vulkan, handle) for handle in handles[: count.value])
    finally:
        vulkan.vkDestroyInstance(instance, None)


def _describe(vulkan: ctypes.CDLL, handle: int | None) -> VulkanDevice:
    properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
    vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), properties)
    kind = int.from_bytes(properties.raw[_DEVICE_TYPE_AT : _DEVICE_TYPE_AT + 4], "little")
    name = properties.raw[_DEVICE_NAME_AT : _DEVICE_NAME_AT + _DEVICE_NAME_BYTES]
    return VulkanDevice(name.split(b"\0", 1)[0].decode(), kind == _DEVICE_TYPE_CPU)
