#!/usr/bin/env bash
# Lets the CI user open /dev/kvm on a hosted runner, and shows what Softoff finds there.
set -euo pipefail
if [ -e /dev/kvm ]; then
    echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"' | sudo tee /etc/udev/rules.d/99-softoff-kvm.rules
    sudo udevadm control --reload-rules
    sudo udevadm trigger --name-match=kvm
fi
# Ubuntu 24.04 keeps user namespaces from ordinary users; the reference guest's builder needs one.
if [ -e /proc/sys/kernel/apparmor_restrict_unprivileged_userns ]; then
    sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0
fi
cargo xtask doctor --install
