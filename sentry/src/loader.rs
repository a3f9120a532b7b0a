//! From an executable file to a new image (`fs/exec.c`, `fs/binfmt_elf.c`, `fs/binfmt_script.c`).
//!
//! In two steps, as execve(2) needs it: [`prepare`] does all that can fail without harm (scripts, headers, the
//! interpreter, sizes), and [`Prepared::load`] builds the image in an address space, behind which there is no way back.

mod auxv;
mod elf;
mod image;
mod script;
mod stack;

use std::sync::Arc;

use linux_abi::Errno;

use crate::{
    SysResult, err,
    vfs::{FileDescription, IoDst},
};

pub use auxv::Identity;
pub use image::LoadedImage;

use elf::Elf;

/// The start of a file that decides on its format (BINPRM_BUF_SIZE).
const HEAD_BYTES: usize = 256;
/// Scripts whose interpreters are scripts.
const SCRIPT_DEPTH_MAX: usize = 5;
/// The longest argument, with its NUL (MAX_ARG_STRLEN).
const STRING_MAX: usize = 128 << 10;
/// All arguments together may always have so much (ARG_MAX), and never more than three quarters of the
/// default stack (`_STK_LIM`).
const STRINGS_MIN: u64 = 128 << 10;
const STRINGS_MAX: u64 = (8 << 20) / 4 * 3;

/// What execve(2) is to run.
#[derive(Debug)]
pub struct ExecRequest {
    /// Opened for execution: a regular file that the caller may execute.
    pub file: Arc<FileDescription>,
    /// As the guest named it: AT_EXECFN, the name of the process, and what a script's interpreter gets.
    pub path: Vec<u8>,
    pub argv: Vec<Vec<u8>>,
    pub envp: Vec<Vec<u8>>,
    /// The soft RLIMIT_STACK.
    pub stack_limit: u64,
}

/// Opens an interpreter for execution, by the path that a script or an ELF file names.
pub type Opener<'a> = dyn Fn(&[u8]) -> SysResult<Arc<FileDescription>> + 'a;

/// An executable that was read and found good.
#[derive(Debug)]
pub struct Prepared {
    file: Arc<FileDescription>,
    path: Vec<u8>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
    elf: Elf,
    interpreter: Option<(Arc<FileDescription>, Elf)>,
    stack_limit: u64,
}

impl Prepared {
    /// The file that is executed: for a script, its interpreter. Its set-id bits count, and it is /proc/PID/exe.
    pub fn file(&self) -> &Arc<FileDescription> {
        &self.file
    }

    /// The new name of the process: the last component of the path, cut to 15 bytes.
    pub fn comm(&self) -> &[u8] {
        let name = self.path.rsplit(|&byte| byte == b'/').next().unwrap_or(&self.path);
        name.get(..15).unwrap_or(name)
    }
}

/// Reads the executable and what it needs. Nothing has changed when this fails.
///
/// # Errors
/// `ENOEXEC` for what is no executable, `E2BIG` for too many arguments, `ELOOP` for scripts within scripts,
/// `ELIBBAD` for a bad ELF interpreter, and what opening an interpreter gives.
pub fn prepare(request: ExecRequest, open: &Opener<'_>) -> SysResult<Prepared> {
    let ExecRequest { mut file, path, mut argv, envp, stack_limit } = request;
    if argv.is_empty() {
        // Programs take argv[0] for granted; Linux puts an empty one there since 5.18.
        argv.push(Vec::new());
    }
    let mut script_path = path.clone();
    let mut depth = 0;
    loop {
        check_sizes(&path, &argv, &envp, stack_limit)?;
        let mut head = [0; HEAD_BYTES];
        let got = read_at(&file, 0, &mut head)?;
        let head = head.get(..got).unwrap_or_default();
        if let Some(script) = script::parse(head)? {
            depth += 1;
            if depth > SCRIPT_DEPTH_MAX {
                return err!(ELOOP);
            }
            // argv[0] makes room for: interpreter, its argument, the script.
            let rest = argv.split_off(1.min(argv.len()));
            argv = vec![script.interpreter.clone()];
            argv.extend(script.argument);
            argv.push(script_path);
            argv.extend(rest);
            file = open(&script.interpreter)?;
            script_path = script.interpreter;
            continue;
        }
        let elf = Elf::read(&file, Errno::ENOEXEC)?;
        let interpreter = match &elf.interpreter {
            None => None,
            Some(path) => {
                let file = open(path)?;
                let elf = Elf::read(&file, Errno::ELIBBAD)?;
                Some((file, elf))
            }
        };
        return Ok(Prepared { file, path, argv, envp, elf, interpreter, stack_limit });
    }
}

/// `E2BIG` when the strings and the pointers to them are too much (`bprm_stack_limits`).
fn check_sizes(path: &[u8], argv: &[Vec<u8>], envp: &[Vec<u8>], stack: u64) -> SysResult<()> {
    let limit = (stack / 4).clamp(STRINGS_MIN, STRINGS_MAX);
    let mut total = path.len() as u64;
    for string in argv.iter().chain(envp) {
        if string.len() >= STRING_MAX {
            return err!(E2BIG);
        }
        total = total.saturating_add(string.len() as u64 + 1 + 8);
    }
    if total > limit { err!(E2BIG) } else { Ok(()) }
}

/// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
fn read_at(file: &FileDescription, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
        match file.ops().read(file, at, &mut IoDst::kernel(rest))? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
