//! The kinds of access that rules tell apart.

use bitflags::bitflags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

bitflags! {
    /// What is done to a file by name. Descriptors that are open already are not asked for again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Access: u8 {
        /// Opened for reading; its link text or an extended attribute read; a link followed.
        const READ = 1;
        /// Opened for writing, truncated; mode, owner, times or extended attributes changed; a socket connected to.
        const WRITE = 2;
        /// The name made, by whatever call.
        const CREATE = 4;
        /// The name taken away or given to another file.
        const DELETE = 8;
        /// Executed as a program, interpreter or loader.
        const EXEC = 0x10;
        /// A directory read or watched.
        const LIST = 0x20;
        /// Looked at, entered, named with O_PATH.
        const STAT = 0x40;
        /// Found at all. Nobody asks for it by itself.
        const FIND = 0x80;
    }
}

impl Access {
    /// Everything that a rule can name.
    pub const NAMED: Self = Self::FIND.complement();
    /// Whatever changes something.
    pub const CHANGES: Self = Self::WRITE.union(Self::CREATE).union(Self::DELETE);

    const NAMES: [(&'static str, Self); 8] = [
        ("read", Self::READ),
        ("write", Self::WRITE),
        ("create", Self::CREATE),
        ("delete", Self::DELETE),
        ("exec", Self::EXEC),
        ("list", Self::LIST),
        ("stat", Self::STAT),
        ("find", Self::FIND),
    ];

    /// The one that a rule calls so.
    pub fn from_word(word: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == word).map(|(_, access)| *access);
        found.filter(|access| Self::NAMED.contains(*access))
    }

    /// The words of rules.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(|(_, access)| Self::NAMED.contains(*access))
            .map(|(name, _)| *name)
    }

    /// What a message calls the first of them.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, access)| self.contains(*access)).map_or("", |(name, _)| name)
    }
}

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.bits().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u8::deserialize(from).map(Self::from_bits_retain)
    }
}
