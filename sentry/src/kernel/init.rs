//! The first process of a sandbox.

use std::sync::{Arc, mpsc};

use linux_abi::{Signal, process::Rlimit};
use platform::{PlatformError, Registers};

use super::{
    ControllingTty, Credentials, CurrentTask, FsContext, Kernel, SignalHandlers, ThreadGroup,
    limits,
    task::{Start, TaskShared, comm_from, spawn},
    thread_group::Inherited,
};
use crate::{Errno, SysError, mm::MemoryManager, vfs::FdTable};

/// What the first process is.
#[derive(Debug)]
pub struct InitConfig {
    /// The program, as a path in the sandbox (already searched along `$PATH`).
    pub path: Vec<u8>,
    pub argv: Vec<Vec<u8>>,
    pub envp: Vec<Vec<u8>>,
    /// Root and working directory, umask.
    pub fs: Arc<FsContext>,
    /// Descriptors, the standard streams among them.
    pub fds: Arc<FdTable>,
    pub cred: Arc<Credentials>,
    pub limits: [Rlimit; limits::COUNT],
    /// The terminal it controls.
    pub tty: Option<Arc<dyn ControllingTty>>,
}

/// Why the first process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("{0}")]
    Platform(#[from] PlatformError),
    /// The program cannot be run.
    #[error("{}", .0.text())]
    Program(Errno),
}

impl From<Errno> for InitError {
    fn from(errno: Errno) -> Self {
        Self::Program(errno)
    }
}

impl From<SysError> for InitError {
    fn from(error: SysError) -> Self {
        Self::Program(error.errno())
    }
}

impl Kernel {
    /// Starts the first process, and waits until its program is loaded (or why it cannot be), or until it is dead
    /// because the host ended it. Once only.
    pub fn spawn_init(self: &Arc<Self>, config: InitConfig) -> Result<Arc<ThreadGroup>, InitError> {
        let space = self.platform().new_address_space()?;
        let mm = MemoryManager::new(space, self.memory().clone(), self.platform().user_range());
        let inherited = Inherited {
            ppid: 0,
            pgid: 1,
            sid: 1,
            exit_signal: Signal::CHLD.number(),
            handlers: SignalHandlers::new(),
            limits: config.limits,
            dumpable: 1,
            oom_score_adj: 0,
        };
        let shared = TaskShared {
            cred: config.cred,
            mm: Some(mm),
            fds: Some(config.fds),
            fs: Some(config.fs),
            comm: comm_from(b"init"),
            personality: 0,
            robust_list: 0,
            seccomp: None,
            force_no_new_privs: false,
        };
        let (group, task) = {
            let mut members = self.tasks.lock();
            if members.task(1).is_some() {
                return Err(Errno::EEXIST.into());
            }
            let pid = members.allocate_pid()?;
            let (group, task) = ThreadGroup::new(self.clone(), pid, inherited, shared);
            members.insert_process(group.clone(), task.clone(), 0);
            (group, task)
        };
        self.tasks.reserve()?;
        super::oom::watch(self).map_err(|_| Errno::EAGAIN)?;
        super::sandbox_limits::watch_cpu_time(self).map_err(|_| Errno::EAGAIN)?;
        if let (Some(session), Some(tty)) = (group.session(), config.tty) {
            tty.enter_session(session.id, 1);
            session.set_tty(Some(tty));
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let (path, argv, envp) = (config.path, config.argv, config.envp);
        let prepare = move |task: &mut CurrentTask| {
            let done = task.exec_path(&path, argv, envp);
            if done.is_err() && !task.has_lost_its_process() {
                task.thread_group().kill();
                let _ = sender.send(done.map(drop));
            }
        };
        let start = Start {
            task,
            registers: Registers::default(),
            xstate: None,
            prepare: Box::new(prepare),
        };
        spawn(start)?;
        // Nothing comes when it runs, or was killed.
        match receiver.recv() {
            Ok(Err(error)) => Err(error.into()),
            _ => Ok(group),
        }
    }
}
