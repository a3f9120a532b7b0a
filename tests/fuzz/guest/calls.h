/* What system calls take, by number: a letter an argument.
 *
 *   f descriptor      p path             b memory, written or read   n size
 *   i small number    x any number       o offset                    g flags
 *   s signal          t process          m mode                      u user
 *   T struct timespec v struct iovec     a socket address            M struct msghdr
 *   A page            P protection       F mapping flags             k key
 *   0 to 9, D to L    one of a list for this call (`commands` below)              */
#ifndef CALLS_H
#define CALLS_H

#include <sys/syscall.h>

static const struct call {
	int number;
	const char *takes;
} calls[] = {
	{SYS_read, "fbn"}, {SYS_write, "fbn"}, {SYS_open, "pOm"}, {SYS_close, "f"},
	{SYS_stat, "pb"}, {SYS_fstat, "fb"}, {SYS_lstat, "pb"}, {SYS_poll, "bii"},
	{SYS_lseek, "foi"}, {SYS_mmap, "AnPFfo"}, {SYS_mprotect, "AnP"}, {SYS_munmap, "An"},
	{SYS_brk, "A"}, {SYS_rt_sigaction, "sbb8"}, {SYS_rt_sigprocmask, "ibb8"},
	{SYS_rt_sigreturn, ""}, {SYS_ioctl, "f1b"}, {SYS_pread64, "fbno"}, {SYS_pwrite64, "fbno"},
	{SYS_readv, "fvi"}, {SYS_writev, "fvi"}, {SYS_access, "pi"}, {SYS_pipe, "b"},
	{SYS_select, "ibbbT"}, {SYS_sched_yield, ""}, {SYS_mremap, "AnniA"}, {SYS_msync, "Ani"},
	{SYS_mincore, "Anb"}, {SYS_madvise, "An2"}, {SYS_shmget, "kng"}, {SYS_shmat, "iAg"},
	{SYS_shmctl, "i3b"}, {SYS_dup, "f"}, {SYS_dup2, "ff"}, {SYS_nanosleep, "Tb"},
	{SYS_getitimer, "ib"}, {SYS_alarm, "i"}, {SYS_setitimer, "ibb"}, {SYS_getpid, ""},
	{SYS_sendfile, "ffbn"}, {SYS_socket, "DEi"}, {SYS_connect, "fai"}, {SYS_accept, "fab"},
	{SYS_sendto, "fbngai"}, {SYS_recvfrom, "fbngab"}, {SYS_sendmsg, "fMg"},
	{SYS_recvmsg, "fMg"}, {SYS_shutdown, "fi"}, {SYS_bind, "fai"}, {SYS_listen, "fi"},
	{SYS_getsockname, "fab"}, {SYS_getpeername, "fab"}, {SYS_socketpair, "DEib"},
	{SYS_setsockopt, "fGHbi"}, {SYS_getsockopt, "fGHbb"}, {SYS_clone, "KAbbx"}, {SYS_fork, ""},
	{SYS_execve, "pbb"}, {SYS_wait4, "tbgb"}, {SYS_kill, "ts"}, {SYS_uname, "b"},
	{SYS_semget, "kig"}, {SYS_semop, "ibi"}, {SYS_semctl, "ii4b"}, {SYS_shmdt, "A"},
	{SYS_msgget, "kg"}, {SYS_msgsnd, "ibng"}, {SYS_msgrcv, "ibnig"}, {SYS_msgctl, "i3b"},
	{SYS_fcntl, "f5b"}, {SYS_fcntl, "f5i"}, {SYS_flock, "fi"}, {SYS_fsync, "f"},
	{SYS_fdatasync, "f"}, {SYS_truncate, "po"}, {SYS_ftruncate, "fo"}, {SYS_getdents, "fbn"},
	{SYS_getcwd, "bn"}, {SYS_chdir, "p"}, {SYS_fchdir, "f"}, {SYS_rename, "pp"},
	{SYS_mkdir, "pm"}, {SYS_rmdir, "p"}, {SYS_creat, "pm"}, {SYS_link, "pp"},
	{SYS_unlink, "p"}, {SYS_symlink, "pp"}, {SYS_readlink, "pbn"}, {SYS_chmod, "pm"},
	{SYS_fchmod, "fm"}, {SYS_chown, "puu"}, {SYS_fchown, "fuu"}, {SYS_lchown, "puu"},
	{SYS_umask, "m"}, {SYS_gettimeofday, "bb"}, {SYS_getrlimit, "ib"}, {SYS_getrusage, "ib"},
	{SYS_sysinfo, "b"}, {SYS_times, "b"}, {SYS_ptrace, "6tAb"}, {SYS_syslog, "ibn"},
	{SYS_setuid, "u"}, {SYS_setgid, "u"}, {SYS_setpgid, "tt"}, {SYS_setsid, ""},
	{SYS_setreuid, "uu"}, {SYS_setregid, "uu"}, {SYS_getgroups, "ib"}, {SYS_setgroups, "ib"},
	{SYS_setresuid, "uuu"}, {SYS_getresuid, "bbb"}, {SYS_setresgid, "uuu"},
	{SYS_getresgid, "bbb"}, {SYS_getpgid, "t"}, {SYS_setfsuid, "u"}, {SYS_setfsgid, "u"},
	{SYS_getsid, "t"}, {SYS_capget, "bb"}, {SYS_capset, "bb"}, {SYS_rt_sigpending, "b8"},
	{SYS_rt_sigtimedwait, "bbT8"}, {SYS_rt_sigqueueinfo, "tsb"}, {SYS_rt_sigsuspend, "b8"},
	{SYS_sigaltstack, "bb"}, {SYS_utime, "pb"}, {SYS_mknod, "pmx"}, {SYS_personality, "x"},
	{SYS_statfs, "pb"}, {SYS_fstatfs, "fb"}, {SYS_getpriority, "it"}, {SYS_setpriority, "iti"},
	{SYS_sched_setparam, "tb"}, {SYS_sched_getparam, "tb"}, {SYS_sched_setscheduler, "tib"},
	{SYS_sched_getscheduler, "t"}, {SYS_sched_get_priority_max, "i"},
	{SYS_sched_rr_get_interval, "tb"}, {SYS_mlock, "An"}, {SYS_munlock, "An"},
	{SYS_mlockall, "i"}, {SYS_munlockall, ""}, {SYS_pivot_root, "pp"}, {SYS_prctl, "7bbbb"},
	{SYS_prctl, "7iiii"}, {SYS_arch_prctl, "9b"}, {SYS_adjtimex, "b"}, {SYS_setrlimit, "ib"},
	{SYS_chroot, "p"}, {SYS_sync, ""}, {SYS_mount, "pppgb"}, {SYS_umount2, "pg"},
	{SYS_sethostname, "bn"}, {SYS_setdomainname, "bn"}, {SYS_gettid, ""},
	{SYS_readahead, "fon"}, {SYS_setxattr, "pbbng"}, {SYS_lsetxattr, "pbbng"},
	{SYS_fsetxattr, "fbbng"}, {SYS_getxattr, "pbbn"}, {SYS_fgetxattr, "fbbn"},
	{SYS_listxattr, "pbn"}, {SYS_flistxattr, "fbn"}, {SYS_removexattr, "pb"},
	{SYS_fremovexattr, "fb"}, {SYS_tkill, "ts"}, {SYS_time, "b"}, {SYS_futex, "bIiTbx"},
	{SYS_sched_setaffinity, "tnb"}, {SYS_sched_getaffinity, "tnb"}, {SYS_epoll_create, "i"},
	{SYS_getdents64, "fbn"}, {SYS_set_tid_address, "b"}, {SYS_restart_syscall, ""},
	{SYS_semtimedop, "ibiT"}, {SYS_fadvise64, "foni"}, {SYS_timer_create, "ibb"},
	{SYS_timer_settime, "igbb"}, {SYS_timer_gettime, "ib"}, {SYS_timer_getoverrun, "i"},
	{SYS_timer_delete, "i"}, {SYS_clock_settime, "iT"}, {SYS_clock_gettime, "xb"},
	{SYS_clock_getres, "xb"}, {SYS_clock_nanosleep, "igTb"}, {SYS_epoll_wait, "fbii"},
	{SYS_epoll_ctl, "fifb"}, {SYS_tgkill, "tts"}, {SYS_utimes, "pb"}, {SYS_mbind, "Anibng"},
	{SYS_set_mempolicy, "ibn"}, {SYS_get_mempolicy, "bbnAg"}, {SYS_mq_open, "bOmb"},
	{SYS_mq_unlink, "b"}, {SYS_mq_timedsend, "fbniT"}, {SYS_mq_timedreceive, "fbnbT"},
	{SYS_mq_notify, "fb"}, {SYS_mq_getsetattr, "fbb"}, {SYS_waitid, "itbgb"},
	{SYS_ioprio_set, "iti"}, {SYS_ioprio_get, "it"}, {SYS_inotify_add_watch, "fpg"},
	{SYS_inotify_rm_watch, "fi"}, {SYS_openat, "fpOm"}, {SYS_mkdirat, "fpm"},
	{SYS_mknodat, "fpmx"}, {SYS_fchownat, "fpuug"}, {SYS_futimesat, "fpb"},
	{SYS_newfstatat, "fpbg"}, {SYS_unlinkat, "fpg"}, {SYS_renameat, "fpfp"},
	{SYS_linkat, "fpfpg"}, {SYS_symlinkat, "pfp"}, {SYS_readlinkat, "fpbn"},
	{SYS_fchmodat, "fpm"}, {SYS_faccessat, "fpi"}, {SYS_pselect6, "ibbbTb"},
	{SYS_ppoll, "biTb8"}, {SYS_unshare, "K"}, {SYS_set_robust_list, "bL"},
	{SYS_get_robust_list, "tbb"}, {SYS_splice, "fbfbng"}, {SYS_tee, "ffng"},
	{SYS_sync_file_range, "foog"}, {SYS_vmsplice, "fvig"}, {SYS_utimensat, "fpbg"},
	{SYS_epoll_pwait, "fbiib8"}, {SYS_signalfd, "fb8"}, {SYS_timerfd_create, "ig"},
	{SYS_eventfd, "x"}, {SYS_fallocate, "fgoo"}, {SYS_timerfd_settime, "fgbb"},
	{SYS_timerfd_gettime, "fb"}, {SYS_accept4, "fabg"}, {SYS_signalfd4, "fb8g"},
	{SYS_eventfd2, "xg"}, {SYS_epoll_create1, "g"}, {SYS_dup3, "ffg"}, {SYS_pipe2, "bO"},
	{SYS_inotify_init1, "g"}, {SYS_preadv, "fvio"}, {SYS_pwritev, "fvio"},
	{SYS_rt_tgsigqueueinfo, "ttsb"}, {SYS_recvmmsg, "fMigT"}, {SYS_prlimit64, "tibb"},
	{SYS_name_to_handle_at, "fpbbg"}, {SYS_clock_adjtime, "ib"}, {SYS_syncfs, "f"},
	{SYS_sendmmsg, "fMig"}, {SYS_setns, "fg"}, {SYS_getcpu, "bbb"},
	{SYS_process_vm_readv, "tvivi"}, {SYS_process_vm_writev, "tvivi"}, {SYS_kcmp, "ttiff"},
	{SYS_sched_setattr, "tbg"}, {SYS_sched_getattr, "tbng"}, {SYS_renameat2, "fpfpg"},
	{SYS_seccomp, "igb"}, {SYS_getrandom, "bng"}, {SYS_memfd_create, "bg"},
	{SYS_execveat, "fpbbg"}, {SYS_membarrier, "ggi"}, {SYS_mlock2, "Ang"},
	{SYS_copy_file_range, "fbfbng"}, {SYS_preadv2, "fvioxg"}, {SYS_pwritev2, "fvioxg"},
	{SYS_pkey_mprotect, "AnPi"}, {SYS_statx, "fpgxb"}, {SYS_pidfd_send_signal, "fsbg"},
	{SYS_pidfd_open, "tg"}, {SYS_clone3, "bL"}, {SYS_close_range, "ffg"},
	{SYS_openat2, "fpbL"}, {SYS_pidfd_getfd, "ffg"}, {SYS_faccessat2, "fpig"},
	{440 /* process_madvise */, "fvi2g"}, {441 /* epoll_pwait2 */, "fbiTb8"},
	{449 /* futex_waitv */, "bigTi"}, {452 /* fchmodat2 */, "fpmg"},
	{454 /* futex_wake */, "bxig"}, {455 /* futex_wait */, "bxxgTi"},
	{456 /* futex_requeue */, "bgii"}, {462 /* mseal */, "Ang"},
};

/* One of these, or one that is near. */
static const struct commands {
	char letter;
	unsigned long from, to, more[8];
} commands[] = {
	{'1', 0x5400, 0x5470, {0x80045430, 0x40045431, 0x80045439, 0x8910, 0x8912, 0x8927, 0x541b, 0x6601}},
	{'2', 0, 26, {100, 101, 1 << 30}},
	{'3', 0, 16, {0x100}},
	{'4', 0, 20, {0x100}},
	{'5', 0, 17, {1024, 1025, 1026, 1030, 1031, 1032, 1033, 1034}},
	{'6', 0, 32, {0x4200, 0x4201, 0x4202, 0x4204, 0x4206, 0x4207, 0x4209, 0x420e}},
	{'7', 1, 75, {0x59616d61, 0x53564d41}},
	{'8', 8, 8, {8, 8, 8, 8, 8, 8, 8, 128}},
	{'9', 0x1001, 0x1012, {0x1002}},
	{'D', 1, 1, {1, 1, 2, 2, 10, 16, 16, 0}},
	{'E', 1, 5, {1 | 0x800, 2 | 0x80000, 5 | 0x800, 1, 2, 3, 1 | 0x80800, 7}},
	{'G', 0, 1, {0, 1, 6, 17, 41, 1, 270, 0}},
	{'H', 0, 80, {0}},
	{'I', 0, 13, {128, 129, 131, 132, 137, 138, 128 + 256 + 9, 256}},
	{'K', 0, 0, {0x11, 0x100 | 0x11, 0x10f00, 0x3d0f00, 0x4000 | 0x100 | 0x11, 0x20000, 0x400, 0x80000000}},
	{'L', 24, 24, {8, 16, 24, 64, 88, 128, 4096, 0}},
	{'O', 0, 3, {0100, 0102, 01102, 02101, 0200000, 0400000, 010000000, 020200002}},
	{'P', 0, 7, {3, 3, 3, 1, 5, 7, 0x01000003, 8}},
	{'F', 1, 3, {0x22, 0x22, 0x21, 0x02, 0x01, 0x32, 0x100022, 0x4022}},
};

#endif
