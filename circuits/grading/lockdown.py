"""What a worker does to itself before it runs a line of a submission: it steps into the room that
bubblewrap made, gives up every privilege, and sets its limits. Linux only. There is no way back.
"""

import ctypes
import errno
import os
import resource

CPU_SECONDS = 120  # of one worker
FILE_BYTES = 32 * 1024**2
OPEN_FILES = 64

# From the kernel's headers sched.h, prctl.h and capability.h.
_NAMESPACES = 0x10000000 | 0x20000000 | 0x00020000 | 0x08000000 | 0x04000000 | 0x40000000
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 24, 36, 38
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CLONE_THREAD = 0x00010000

# An answer computes: it opens no socket, starts or ends no program, and looks into no other process.
# What is not on the list is harmless in a room without privileges, network and writable files.
_FORBIDDEN = """
    fork vfork execve execveat kill rt_sigqueueinfo ptrace process_vm_readv process_vm_writev process_madvise
    pidfd_open pidfd_getfd pidfd_send_signal kcmp socket socketpair sendmsg sendmmsg recvmsg
    recvmmsg unshare setns mount umount2
    pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr bpf
    perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register io_setup
    keyctl add_key
    request_key memfd_create memfd_secret shmget shmat semget msgget mq_open personality
    name_to_handle_at open_by_handle_at fanotify_init inotify_init inotify_init1 quotactl acct
    kexec_load init_module finit_module delete_module reboot swapon swapoff syslog settimeofday
    clock_settime adjtimex modify_ldt iopl ioperm
""".split()

_libc = ctypes.CDLL(None, use_errno=True)


def enter(pidfd: int) -> None:
    """Join all namespaces of the process behind `pidfd`; children are then born inside.

    Raises OSError (kernels before 5.8 cannot do it by pidfd)."""
    _must(_libc.setns(pidfd, _NAMESPACES))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended. Left to the system's first
    process, a dead worker would stay, and its room with it, until that one looks."""
    _must(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def lock_down(rules, memory: int) -> None:
    """Give up privileges, set limits (`memory`: bytes of address space), forbid system calls.
    Raises OSError where that is impossible: nothing may run then."""
    os.setsid()  # a signal to "my process group" would reach the warm process and the grader
    os.chdir("/tmp")
    for resource_, limit in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
    ):
        resource.setrlimit(resource_, (limit, limit))
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails past the last one
    _must(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _must(_libc.syscall(_SYS_CAPSET[os.uname().machine], header, (ctypes.c_uint32 * 6)()))
    rules.load()


def system_call_filter():
    """A filter that refuses the system calls an answer has no use for, new processes among them.

    Raises ImportError or OSError where libseccomp is missing."""
    import pyseccomp

    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _FORBIDDEN:
        try:
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
        except ValueError:  # not a system call of this machine
            continue
    not_a_thread = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, 0)
    rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", not_a_thread)
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # its arguments cannot be looked at
    return rules


def _must(result: int) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
