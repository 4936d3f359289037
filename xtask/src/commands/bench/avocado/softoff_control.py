"""The control scenario as a test of avocado-vt: wait for the guest, press the power button, wait for its end."""

from virttest import utils_misc
from virttest.guest_agent import QemuAgent, VAgentError


def run(test, params, env):
    vm = env.get_vm(params["main_vm"])
    vm.verify_alive()
    port = {"monitor_filename": vm.get_serial_console_filename("agent")}

    def ready():
        """Softoff's own readiness: the agent answers, and the session tells its desktop on COM1."""
        try:
            QemuAgent(vm, "agent", "virtio", port).cmd("guest-ping", timeout=2)
        except VAgentError:
            return False
        with open(params["chardev_path_com1"], "rb") as told:
            return b'"desktop-ready"' in told.read()

    if not utils_misc.wait_for(ready, 600, step=1.0):
        test.error("the guest was not ready within 600 s")
    vm.monitor.cmd("system_powerdown")
    if not utils_misc.wait_for(vm.is_dead, 300, step=1.0):
        test.fail("the guest still runs 300 s after system_powerdown")
