"""Acts in which Frank, who operates the machines, runs something that nobody agreed to."""

from mcbn_simulator.demo.processes import DemoError
from mcbn_simulator.demo.scene import Scene
from mcbn_simulator.demo.seen import Seen
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.witnesses import signed_refusals


async def debug_image(scene: Scene) -> Seen:
    """A debug image lets its operator log in: the agreed digest in it helps nobody."""
    return await _refused(scene, scene.debug, "dbgstat")


async def wrong_digest(scene: Scene) -> Seen:
    """A genuine VM of the production kind, with an image of other content."""
    return await _refused(scene, scene.changed, "image_digest")


async def _refused(scene: Scene, vm: Vm, check: str) -> Seen:
    process = await scene.start(vm)
    names = list(scene.participants)
    refusals = await signed_refusals(process, names, code="appraisal_failed")
    checks = {str(event.members["participant"]): event.members.get("check") for event in refusals}
    for name, failing in checks.items():
        scene.narrator.step(f"{name.capitalize()} refuses {vm.name}, signed: appraisal_failed, check {failing}")
    if set(checks.values()) != {check}:
        raise DemoError(f"The failing check should be {check}, but the refusals say {checks}.", process.tail())
    return Seen(f"all three refuse {vm.name}: check {check}", {"checks": checks})
