//! The names uname(2) tells.

use linux_abi::process::Utsname;
use ranked_sync::Mutex;

use crate::lock_order;

/// `__NEW_UTS_LEN`.
pub const NAME_MAX: usize = 64;
/// The kernel this one is like.
pub const RELEASE: &str = "6.12.0";
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC Lazaret";

/// Names that can be changed.
#[derive(Debug)]
pub struct Uts(Mutex<lock_order::Leaf, Names>);

#[derive(Debug)]
struct Names {
    host: Vec<u8>,
    domain: Vec<u8>,
}

impl Default for Uts {
    fn default() -> Self {
        Self(Mutex::new(Names { host: b"lazaret".to_vec(), domain: b"(none)".to_vec() }))
    }
}

impl Uts {
    pub fn host_name(&self) -> Vec<u8> {
        self.0.lock().host.clone()
    }

    /// Cut to 64 bytes.
    pub fn set_host_name(&self, name: &[u8]) {
        self.0.lock().host = name.iter().copied().take(NAME_MAX).collect();
    }

    pub fn domain_name(&self) -> Vec<u8> {
        self.0.lock().domain.clone()
    }

    pub fn set_domain_name(&self, name: &[u8]) {
        self.0.lock().domain = name.iter().copied().take(NAME_MAX).collect();
    }

    /// All of it.
    pub fn names(&self) -> Utsname {
        let names = self.0.lock();
        Utsname {
            sysname: field(b"Linux"),
            nodename: field(&names.host),
            release: field(RELEASE.as_bytes()),
            version: field(VERSION.as_bytes()),
            machine: field(b"x86_64"),
            domainname: field(&names.domain),
        }
    }
}

fn field(text: &[u8]) -> [u8; 65] {
    let mut field = [0; 65];
    for (to, from) in field.iter_mut().take(NAME_MAX).zip(text) {
        *to = *from;
    }
    field
}
