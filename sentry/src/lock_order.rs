//! The one lock order of the sentry, outermost first. A thread may take a lock only if it
//! comes after all those it holds; debug builds check (see `ranked_sync`).
//!
//! Rules: no lock is held across a switch to the guest, a gofer call or a blocking host
//! call. Wait queues are last but one: notify after unlocking whatever the event changed,
//! or at least without needing more locks than the queue's own.
//! User memory (`MmVmas`) may be taken below most object locks on purpose, but prefer to
//! copy before or after the critical section: a copy may fault pages in.

use ranked_sync::lock_order;

lock_order! {
    base 100;
    /// A file description's position. Held for the whole of a read, write or getdents that uses
    /// it, so all else may be taken below it (reading a file of /proc takes almost anything).
    FileOffset,
    /// One epoll set at a time is put into another.
    EpollNesting,
    /// The scan of an epoll set's ready list, which polls files (outer set before inner).
    EpollScan,
    /// The set of mounts, and the mount tree.
    MountTree,
    /// One rename at a time moves dentries between directories.
    Rename,
    /// The names of one directory change, or are asked for, one at a time. The one lock held across the file
    /// system's own work, gofer calls included (`i_rwsem` in Linux): no guest memory is touched below it.
    DirChange,
    /// A dentry's children, in memory.
    DentryChildren,
    /// An overlay inode's layers, taken while copying up.
    OverlayInode,
    /// Pid table, parent/child links, process groups and sessions.
    TaskSet,
    /// Timers of a process, timerfd. Looking at processor time needs the threads.
    Timers,
    /// A tty's controlling session and line discipline.
    Tty,
    /// Signal actions shared by a thread group.
    SignalHandlers,
    /// Pending signals, stop state and exit state of a thread group.
    ThreadGroup,
    /// Signals pending for one thread.
    TaskSignals,
    /// A task's own changeable fields (name, credentials pointer, fd table pointer …).
    Task,
    /// Current directory, root, umask.
    FsContext,
    /// Where one mount hangs, and what is mounted on it.
    MountLinks,
    /// The fd table of a process.
    FdTable,
    /// epoll: the interest list.
    Epoll,
    /// Record locks and leases of an inode.
    FileLocks,
    /// inotify marks and event queues.
    Inotify,
    /// AF_UNIX name tables, TCP/UDP port tables.
    SocketNames,
    /// One reader of a stream socket at a time.
    SocketRead,
    /// A socket's state.
    Socket,
    /// The peer of a socket whose state is held.
    SocketPeer,
    /// A pipe's buffer.
    Pipe,
    /// An inode's attributes and data (directory entries, page ranges).
    Inode,
    /// A second inode when two are needed (rename, link): by inode number.
    InodeNested,
    /// Futex buckets (two: by address).
    Futex,
    /// VMAs and page ranges of an address space (two: fork, parent before child).
    MmVmas,
    /// Rewritten pages of program text in an address space (two: fork, parent before child).
    Rewrites,
    /// A mappable's list of mappings.
    Mappings,
    /// Small leaf state that calls nothing: counters, caches, names.
    Leaf,
    /// The ready list of an epoll set; taken by whoever wakes a watched file.
    EpollReady,
    /// The waiters of one object.
    WaitQueue,
    /// Virtual processors: who waits for one.
    VirtualProcessors,
    /// Timer wheel of the kernel's timer thread.
    TimerQueue,
    /// A task's waker.
    Waker,
}
