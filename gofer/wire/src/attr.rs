//! File attributes (statx(2)), and changes to them.

use crate::codec::{Malformed, Reader, Wire, Writer};

/// A device number, in its two parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// Seconds since 1970 and nanoseconds below one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub sec: i64,
    pub nsec: u32,
}

/// Which file it is, whatever its name: for as long as it exists, and someone knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub dev: Device,
    pub ino: u64,
}

impl Wire for FileId {
    fn encode(&self, out: &mut Writer) {
        self.dev.encode(out);
        out.u64(self.ino);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { dev: Device::decode(from)?, ino: from.u64()? })
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    /// A directory entry whose file system does not say.
    Unknown,
}

impl FileType {
    /// From the type bits of `st_mode`.
    pub const fn from_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            _ => Self::Unknown,
        }
    }

    /// The type bits of `st_mode`; 0 for [`Self::Unknown`].
    pub const fn to_mode(self) -> u32 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Unknown => 0,
        }
    }

    /// `d_type` of readdir(3): the type bits of the mode, shifted down.
    pub const fn to_dirent(self) -> u8 {
        (self.to_mode() >> 12) as u8
    }
}

impl Wire for FileType {
    fn encode(&self, out: &mut Writer) {
        out.u8(self.to_dirent());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let raw = from.u8()?;
        let kind = Self::from_mode(u32::from(raw) << 12);
        if kind.to_dirent() == raw { Ok(kind) } else { Err(Malformed("file type")) }
    }
}

/// The attributes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub ino: u64,
    pub dev: Device,
    /// For device files.
    pub rdev: Device,
    /// In bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of I/O.
    pub blksize: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// When the file was made, where the file system knows.
    pub btime: Option<Timestamp>,
    /// `STATX_ATTR_*` bits that the file system supports, and which are set.
    pub attributes: u64,
    pub attributes_mask: u64,
    /// The mount that the file is on. Unique only within the host.
    pub mount_id: u64,
}

impl Attr {
    /// What the file is.
    pub const fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// Which file it is.
    pub const fn id(&self) -> FileId {
        FileId { dev: self.dev, ino: self.ino }
    }

    /// The permission bits with set-id and sticky: `mode & 07777`.
    pub const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

impl Wire for Device {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.major);
        out.u32(self.minor);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { major: from.u32()?, minor: from.u32()? })
    }
}

impl Wire for Timestamp {
    fn encode(&self, out: &mut Writer) {
        out.i64(self.sec);
        out.u32(self.nsec);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (sec, nsec) = (from.i64()?, from.u32()?);
        if nsec >= 1_000_000_000 {
            return Err(Malformed("nanoseconds"));
        }
        Ok(Self { sec, nsec })
    }
}

impl Wire for Attr {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.mode);
        out.u32(self.nlink);
        out.u32(self.uid);
        out.u32(self.gid);
        out.u64(self.ino);
        self.dev.encode(out);
        self.rdev.encode(out);
        out.u64(self.size);
        out.u64(self.blocks);
        out.u32(self.blksize);
        self.atime.encode(out);
        self.mtime.encode(out);
        self.ctime.encode(out);
        out.option(self.btime, |out, time| time.encode(out));
        out.u64(self.attributes);
        out.u64(self.attributes_mask);
        out.u64(self.mount_id);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let attr = Self {
            mode: from.u32()?,
            nlink: from.u32()?,
            uid: from.u32()?,
            gid: from.u32()?,
            ino: from.u64()?,
            dev: Device::decode(from)?,
            rdev: Device::decode(from)?,
            size: from.u64()?,
            blocks: from.u64()?,
            blksize: from.u32()?,
            atime: Timestamp::decode(from)?,
            mtime: Timestamp::decode(from)?,
            ctime: Timestamp::decode(from)?,
            btime: from.option(Timestamp::decode)?,
            attributes: from.u64()?,
            attributes_mask: from.u64()?,
            mount_id: from.u64()?,
        };
        if attr.mode > 0o177_777 || attr.file_type() == FileType::Unknown {
            return Err(Malformed("file mode"));
        }
        // `loff_t` is signed: a larger size would overflow whoever computes with it.
        if i64::try_from(attr.size).is_err() {
            return Err(Malformed("file size"));
        }
        Ok(attr)
    }
}

/// Who a new file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Wire for Owner {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.uid);
        out.u32(self.gid);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { uid: from.u32()?, gid: from.u32()? })
    }
}

/// What to set a time stamp to (utimensat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// To the host's present time.
    Now,
    To(Timestamp),
}

impl Wire for SetTime {
    fn encode(&self, out: &mut Writer) {
        out.bool(matches!(self, Self::To(_)));
        if let Self::To(time) = self {
            time.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(if from.bool()? { Self::To(Timestamp::decode(from)?) } else { Self::Now })
    }
}

/// Which attributes to change. Applied in the order size, owner, mode, times; the
/// first error ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits, `07777`.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

impl Wire for SetAttr {
    fn encode(&self, out: &mut Writer) {
        out.option(self.mode, Writer::u32);
        out.option(self.uid, Writer::u32);
        out.option(self.gid, Writer::u32);
        out.option(self.size, Writer::u64);
        out.option(self.atime, |out, time| time.encode(out));
        out.option(self.mtime, |out, time| time.encode(out));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            mode: from.option(Reader::u32)?,
            uid: from.option(Reader::u32)?,
            gid: from.option(Reader::u32)?,
            size: from.option(Reader::u64)?,
            atime: from.option(SetTime::decode)?,
            mtime: from.option(SetTime::decode)?,
        })
    }
}

/// A file system's size and use (statfs(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// `f_type`: the magic number.
    pub magic: u64,
    /// In bytes.
    pub block_size: u64,
    pub fragment_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub fsid: u64,
    pub name_max: u64,
    /// `ST_*` flags as in `f_flags`.
    pub flags: u64,
}

impl Wire for StatFs {
    fn encode(&self, out: &mut Writer) {
        for value in [
            self.magic,
            self.block_size,
            self.fragment_size,
            self.blocks,
            self.blocks_free,
            self.blocks_available,
            self.files,
            self.files_free,
            self.fsid,
            self.name_max,
            self.flags,
        ] {
            out.u64(value);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            magic: from.u64()?,
            block_size: from.u64()?,
            fragment_size: from.u64()?,
            blocks: from.u64()?,
            blocks_free: from.u64()?,
            blocks_available: from.u64()?,
            files: from.u64()?,
            files_free: from.u64()?,
            fsid: from.u64()?,
            name_max: from.u64()?,
            flags: from.u64()?,
        })
    }
}
