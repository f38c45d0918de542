"""Asks Vulkan and SAPIEN what they can do; run as a process of its own, prints lines of JSON.

A driver that does not fit can crash the process that loads it, so nothing else lives in here.
The lines come one by one, and what was found before a crash is not lost:
`{"devices": [...]}` then `{"render": {...}}`.
"""

import contextlib
import ctypes
import json
import os
import time
from dataclasses import asdict, dataclass

from vlm4vla.system import shaders, vulkan

PIXELS = 128
# The front of the box is 0.2 m wide and 0.5 m away; the camera sees 2 * 0.5 * tan(0.5) = 0.546 m.
BOX_SHARE = (0.2 / 0.546) ** 2

_APPLICATION_INFO = 0
_INSTANCE_CREATE_INFO = 1
_PROPERTIES_2 = 1000059001
_DRIVER_PROPERTIES = 1000196000
_VULKAN_1_2 = 1 << 22 | 2 << 12


@dataclass(frozen=True)
class Device:
    """A Vulkan device and its driver, in the driver's own words."""

    name: str
    driver: str


class _ApplicationInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("application", ctypes.c_char_p),
        ("application_version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api_version", ctypes.c_uint32),
    )


class _InstanceCreateInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_ApplicationInfo)),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class _DriverProperties(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("id", ctypes.c_int),
        ("name", ctypes.c_char * 256),
        ("info", ctypes.c_char * 256),
        ("conformance", ctypes.c_uint8 * 4),
    )


class _Properties(ctypes.Structure):
    """VkPhysicalDeviceProperties2; the limits that follow the name stay in `rest`, unread."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("versions", ctypes.c_uint32 * 4),
        ("kind", ctypes.c_int),
        ("name", ctypes.c_char * 256),
        ("rest", ctypes.c_uint8 * 2048),
    )


def devices(library: str) -> list[Device]:
    """The devices of the Vulkan loader at `library`; empty when no driver answers."""
    loader = ctypes.CDLL(library)
    instance = ctypes.c_void_p()
    # Without a version the loader offers Vulkan 1.0, which cannot name its driver.
    application = _ApplicationInfo(type=_APPLICATION_INFO, api_version=_VULKAN_1_2)
    info = _InstanceCreateInfo(type=_INSTANCE_CREATE_INFO, application=ctypes.pointer(application))
    if loader.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)) != 0:
        return []
    count = ctypes.c_uint32()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    handles = (ctypes.c_void_p * count.value)()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
    found = []
    for handle in handles:
        driver = _DriverProperties(type=_DRIVER_PROPERTIES)
        device = _Properties(
            type=_PROPERTIES_2, next=ctypes.cast(ctypes.pointer(driver), ctypes.c_void_p)
        )
        loader.vkGetPhysicalDeviceProperties2(ctypes.c_void_p(handle), ctypes.byref(device))
        found.append(Device(device.name.decode(), driver.info.decode()))
    loader.vkDestroyInstance(instance, None)
    return found


def render() -> dict[str, float]:
    """Renders a red box with SAPIEN, and measures the picture and the time.

    Returns:
        `first_ms` for the first picture, `ms` for the next, and `box`, the share of its pixels
        that the box covers (see `BOX_SHARE`).
    """
    import sapien

    # As in the suite; the default shaders take seconds to compile.
    sapien.render.set_camera_shader_dir(shaders.without_reflection())
    scene = sapien.Scene([sapien.physx.PhysxCpuSystem(), sapien.render.RenderSystem("cpu")])
    scene.set_ambient_light([0.4, 0.4, 0.4])
    scene.add_directional_light([0.3, 1, -1], [1, 1, 1])
    builder = scene.create_actor_builder()
    builder.add_box_visual(half_size=[0.1, 0.1, 0.1], material=[1.0, 0.0, 0.0])
    builder.build_static(name="box")
    camera = scene.add_camera("probe", PIXELS, PIXELS, fovy=1.0, near=0.01, far=10)
    camera.entity.set_pose(sapien.Pose([-0.6, 0, 0]))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        scene.update_render()
        camera.take_picture()
        picture = camera.get_picture("Color")
        times.append((time.perf_counter() - start) * 1000)
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    box = float(((red > 2 * green) & (red > 2 * blue)).mean())
    return {"first_ms": times[0], "ms": times[1], "box": box}


def _loader() -> str:
    """The Vulkan loader that SAPIEN will use: the system's, else the one in its package."""
    with contextlib.suppress(OSError):
        ctypes.CDLL("libvulkan.so.1")
        return "libvulkan.so.1"
    return os.environ["SAPIEN_VULKAN_LIBRARY_PATH"]


def main() -> None:
    """Prints the devices, then what a test render gave."""
    vulkan.ensure_driver()
    # ManiSkill imports it, and it needs system libraries that a small system lacks.
    import cv2  # noqa: F401

    # Names its own Vulkan loader where the system has none.
    import sapien  # noqa: F401

    print(json.dumps({"devices": [asdict(device) for device in devices(_loader())]}), flush=True)
    print(json.dumps({"render": render()}), flush=True)


if __name__ == "__main__":
    main()
