"""The guest gives Docker what a distribution gives it: limits, scores, mounts, devices, files and networks."""

import re

import pytest

from tests.e2e.conftest import Person

pytestmark = pytest.mark.qemu

KILLED = 137
EAT = "tr '\\0' x </dev/zero | head -c {0}m | tail -c {0}m >/dev/null"  # tail has all of it in memory
PROFILE = "/var/lib/boot2docker/profile"


def run(person: Person, *arguments: str, code: int = 0) -> str:
    """Run a container of the image `hello`; return its output."""
    completed = person.run_docker("run", "--rm", *arguments)
    assert completed.returncode == code, completed.stderr.decode()
    return completed.stdout.decode().strip()


def shell(person: Person, *options: str, script: str, code: int = 0) -> str:
    return run(person, *options, "hello", "sh", "-c", script, code=code)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("-m", "32m", "--memory-swap", "32m"), KILLED),
        (("-m", "32m", "--memory-swap", "64m"), KILLED),
        (("-m", "32m", "--memory-swap", "300m"), 0),
        ((), 0),
    ],
)
def test_a_memory_limit_holds(up: Person, options: tuple[str, ...], code: int) -> None:
    shell(up, *options, script=EAT.format(100), code=code)


def test_docker_has_no_warnings_about_the_kernel(up: Person) -> None:
    assert up.docker("info", "-f", "{{json .Warnings}} {{.CgroupVersion}} {{.SwapLimit}}") == "null 2 true\n"


def test_the_kernel_ends_containers_before_docker(up: Person) -> None:
    up.docker("run", "-d", "--name", "scored", "hello", "sleep", "100")
    scores = "for pid in $(pidof containerd dockerd stunnel4) self; do cat /proc/$pid/oom_score_adj; done"
    assert sorted(up.check_output("ssh", scores).split()) == ["-500", "-900", "-999", "0"]
    assert up.docker(
        "exec", "scored", "/usr/bin/busybox", "cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj"
    ).split() == ["0", "0"]
    up.docker("rm", "-f", "scored")


@pytest.mark.parametrize(
    "file",
    ["/etc/localtime", "/etc/timezone", "/etc/machine-id", "/etc/hostname", "/etc/os-release"],
)
def test_files_that_people_mount_exist(up: Person, file: str) -> None:
    assert run(up, "-v", f"{file}:/mounted:ro", "hello", "wc", "-c", "/mounted").split()[0] != "0"


def test_folders_that_people_mount_have_content(up: Person) -> None:
    folders = (
        "/usr/share/zoneinfo",
        "/lib/modules",
        "/etc/ssl/certs",
        "/sys/kernel/debug",
        "/sys/fs/bpf",
        "/dev/mqueue",
    )
    for folder in folders:
        run(up, "-v", f"{folder}:/mounted:ro", "hello", "ls", "/mounted")
    assert "Berlin" in run(up, "-v", "/usr/share/zoneinfo:/z:ro", "hello", "ls", "/z/Europe")
    assert (
        up.check_output("ssh", "grep -c -E ' (debugfs|tracefs|bpf|mqueue|hugetlbfs|securityfs) ' /proc/mounts") == "6\n"
    )


def test_the_machine_id_is_the_machine_s_own_and_stays(up: Person) -> None:
    before = up.check_output("ssh", "cat /etc/machine-id")
    assert re.fullmatch(r"[0-9a-f]{32}\n", before)
    up.check_output("restart")
    assert up.check_output("ssh", "cat /etc/machine-id") == before


def test_programs_of_other_architectures_run_once_their_emulator_is_registered(up: Person) -> None:
    """The program of the image plays the emulator, of files that begin with DEMO."""
    entry = ":demo:M::DEMO::/usr/bin/busybox:F"
    mounted = "mkdir -p /b && mount -t binfmt_misc none /b"
    shell(up, "--privileged", script=f"{mounted} && echo '{entry}' >/b/register")
    assert shell(up, script="printf DEMO >/echo && chmod 755 /echo && /echo it works") == "it works"
    shell(up, "--privileged", script=f"{mounted} && echo -1 >/b/demo")


@pytest.mark.parametrize("mount", ["/:/host:ro,rslave", "/home/docker:/x:rshared", "/var/lib/boot2docker:/x:shared"])
def test_mounts_may_propagate(up: Person, mount: str) -> None:
    run(up, "-v", mount, "hello", "true")


def test_a_mount_of_a_container_is_seen_by_another(up: Person) -> None:
    command = "mount -t tmpfs none /x/inside && echo here >/x/inside/file"
    shell(up, "--privileged", "-v", "/mnt/vda1/shared:/x:rshared", script=f"mkdir -p /x/inside && {command}")
    assert shell(up, "-v", "/mnt/vda1/shared:/x:rslave", script="cat /x/inside/file") == "here"
    up.check_output("ssh", "sudo umount /mnt/vda1/shared/inside && sudo rm -r /mnt/vda1/shared")


def test_limits_of_processes_and_the_kernel_are_those_of_a_distribution(up: Person) -> None:
    assert shell(up, script="ulimit -u; ulimit -n").split() == ["unlimited", "1048576"]
    values = "cat /proc/sys/kernel/pid_max /proc/sys/vm/max_map_count /proc/sys/net/ipv4/ping_group_range"
    assert shell(up, script=values).split() == ["4194304", "1048576", "0", "2147483647"]


@pytest.mark.parametrize("device", ["fuse", "net/tun", "loop-control", "mapper/control"])
def test_devices_can_be_given_to_containers(up: Person, device: str) -> None:
    """The kernel loads the module when the device is opened."""
    shell(up, "--privileged", "--device", f"/dev/{device}", script=f"exec 3<>/dev/{device}")


def test_the_network_card_has_one_address_and_swarm_begins(up: Person) -> None:
    assert up.check_output("ssh", "ip -4 addr show dev eth0 | grep -c inet") == "1\n"
    assert "is now a manager" in up.docker("swarm", "init")
    up.docker("swarm", "leave", "--force")


@pytest.mark.parametrize("driver", ["aufs", "devicemapper", "overlay"])
def test_a_storage_driver_of_an_old_profile_is_passed_over(up: Person, driver: str) -> None:
    up.check_output("ssh", f"echo DOCKER_STORAGE={driver} | sudo tee {PROFILE}")
    completed = up.b2d("restart")
    assert completed.returncode == 0
    assert f"DOCKER_STORAGE={driver}".encode() in completed.stderr
    assert up.docker("info", "-f", "{{.Driver}}") == "overlay2\n"
    up.check_output("ssh", f"sudo rm {PROFILE}")


def test_the_kernel_has_all_abilities_that_docker_looks_for(up: Person) -> None:
    """The abilities that contrib/check-config.sh of github.com/moby/moby looks for, each tried in the guest."""
    modules = (
        "bridge br_netfilter veth overlay macvlan ipvlan vxlan dummy ip_vs ip_vs_rr xt_ipvs xt_conntrack xt_addrtype "
        "xt_MASQUERADE xt_REDIRECT xt_bpf iptable_nat iptable_filter iptable_mangle ip6table_nat ip6table_filter "
        "nf_nat_ftp nf_conntrack_ftp xfrm_user esp4 cls_cgroup 8021q ext4 dm_mod nft_compat"
    )
    script = f"""
        for module in {modules}; do sudo modprobe $module || echo $module; done
        for name in ipc mnt net pid uts user cgroup; do [ -e /proc/self/ns/$name ] || echo $name; done
        for name in cpuset cpu io memory pids hugetlb; do
            grep -qw $name /sys/fs/cgroup/cgroup.controllers || echo $name
        done
        for name in memory.swap.max memory.max pids.max cpu.max io.max cpuset.cpus cgroup.freeze; do
            [ -e /sys/fs/cgroup/dockerd/$name ] || echo $name
        done
        for file in /proc/keys /proc/sys/kernel/seccomp /proc/sys/user/max_user_namespaces /dev/mqueue; do
            [ -e $file ] || echo $file
        done
    """
    assert up.check_output("ssh", script) == ""
