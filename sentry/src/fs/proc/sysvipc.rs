//! `/proc/sysvipc`: what System V objects there are, whoever may use them (`sysvipc_proc_show` in `ipc/util.c`).

use std::sync::{Arc, atomic::Ordering};

use super::{Builder, Show, put};
use crate::{SysResult, fs::pseudo::FixedEntries, kernel::Kernel, vfs::Inode};

const FILES: &[(&str, Show)] = &[("msg", msg), ("sem", sem), ("shm", shm)];

/// The directory.
pub(super) fn directory(builder: &Builder) -> Arc<dyn Inode> {
    let mut entries = FixedEntries::new();
    for &(name, show) in FILES {
        entries.add(name, builder.show(0o444, show));
    }
    builder.tree.dir(entries)
}

fn msg(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n"
    );
    for (id, queue) in kernel.messages.list() {
        let perm = &queue.perm;
        put!(
            out,
            "{:10} {:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}\n",
            perm.key,
            id,
            perm.mode,
            queue.cbytes,
            queue.qnum,
            queue.lspid,
            queue.lrpid,
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            queue.stime,
            queue.rtime,
            queue.ctime
        );
    }
    Ok(())
}

fn sem(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
    );
    for (id, set) in kernel.semaphores.list() {
        let perm = &set.perm;
        put!(
            out,
            "{:10} {:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {:10} {:10}\n",
            perm.key,
            id,
            perm.mode,
            set.nsems,
            perm.uid,
            perm.gid,
            perm.cuid,
            perm.cgid,
            set.otime,
            set.ctime
        );
    }
    Ok(())
}

fn shm(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n"
    );
    for (segment, removed) in kernel.shm.all() {
        let owner = *segment.owner.lock();
        put!(
            out,
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}\n",
            if removed { 0 } else { segment.key },
            segment.id,
            segment.mode(removed),
            segment.size,
            segment.creator_pid,
            segment.last_pid.load(Ordering::Relaxed),
            segment.attachments(),
            owner.uid,
            owner.gid,
            segment.creator.0,
            segment.creator.1,
            segment.attach_time.load(Ordering::Relaxed),
            segment.detach_time.load(Ordering::Relaxed),
            segment.change_time.load(Ordering::Relaxed),
            segment.size,
            0
        );
    }
    Ok(())
}
