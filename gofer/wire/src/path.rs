//! Paths within a tree: plain names only, so that no path leads out of its tree.

use linux_abi::Errno;

use crate::{MAX_NAME, MAX_REQUEST};

/// A path below the root of a tree: names joined by `/`; the empty path is the
/// root itself. No name is empty, `.` or `..`, holds a NUL, or is longer than 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreePath<'a>(&'a [u8]);

/// Checks one name of a directory entry.
///
/// # Errors
/// `EINVAL` for a name that no directory entry can have; `ENAMETOOLONG`.
pub fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > MAX_NAME {
        return Err(Errno::ENAMETOOLONG);
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|&b| b == b'/' || b == 0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

impl<'a> TreePath<'a> {
    /// The root of the tree.
    pub const ROOT: TreePath<'static> = TreePath(b"");

    /// Checks `bytes`.
    ///
    /// # Errors
    /// `EINVAL` for an absolute path or one with a name that is empty, `.` or `..`;
    /// `ENAMETOOLONG` for a name of more than 255 bytes, or a path that no request could carry.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        if bytes.len() > MAX_REQUEST / 2 {
            return Err(Errno::ENAMETOOLONG);
        }
        if !bytes.is_empty() {
            for name in bytes.split(|&b| b == b'/') {
                check_name(name)?;
            }
        }
        Ok(Self(bytes))
    }

    /// The names joined by `/`.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A path that owns its bytes.
    pub fn to_owned_path(self) -> TreePathBuf {
        TreePathBuf(self.0.to_vec())
    }

    /// Whether this is the root of the tree.
    pub fn is_root(self) -> bool {
        self.0.is_empty()
    }

    /// The names, outermost first.
    pub fn names(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// The directory and the name in it; `None` for the root.
    pub fn split_last(self) -> Option<(TreePath<'a>, &'a [u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => {
                let (parent, name) = self.0.split_at_checked(slash)?;
                Some((TreePath(parent), name.get(1..)?))
            }
            None => Some((TreePath::ROOT, self.0)),
        }
    }

    /// Cuts off a leading part of at most `max` bytes which ends where a name
    /// ends, for calls that take no longer paths. The rest is empty when all fits.
    /// `max` must be at least 255, so that one name always fits.
    pub fn split_at_most(self, max: usize) -> (TreePath<'a>, TreePath<'a>) {
        if self.0.len() <= max {
            return (self, TreePath::ROOT);
        }
        let window = self.0.get(..=max).unwrap_or(self.0);
        let cut = window.iter().rposition(|&b| b == b'/').unwrap_or(self.0.len());
        match (self.0.get(..cut), self.0.get(cut.saturating_add(1)..)) {
            (Some(head), Some(rest)) => (TreePath(head), TreePath(rest)),
            _ => (self, TreePath::ROOT),
        }
    }
}

/// A [`TreePath`] that owns its bytes, to be built name by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TreePathBuf(Vec<u8>);

impl TreePathBuf {
    /// The root of the tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path of these names, outermost first.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Result<Self, Errno> {
        let mut path = Self::new();
        for name in names {
            path.push(name)?;
        }
        Ok(path)
    }

    /// Goes down to `name`.
    ///
    /// # Errors
    /// As [`TreePath::new`].
    pub fn push(&mut self, name: &[u8]) -> Result<(), Errno> {
        check_name(name)?;
        if self.0.len().saturating_add(name.len()) >= MAX_REQUEST / 2 {
            return Err(Errno::ENAMETOOLONG);
        }
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
        Ok(())
    }

    /// Goes up by one name; false at the root.
    pub fn pop(&mut self) -> bool {
        let Some((parent, _)) = self.as_path().split_last() else { return false };
        let len = parent.as_bytes().len();
        self.0.truncate(len);
        true
    }

    /// The path, borrowed.
    pub fn as_path(&self) -> TreePath<'_> {
        TreePath(&self.0)
    }
}

/// Several paths, none of them the root: joined by NUL, which no name holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreePaths<'a>(&'a [u8]);

impl<'a> TreePaths<'a> {
    /// Checks `bytes`: at least one path.
    ///
    /// # Errors
    /// As [`TreePath::new`]; `EINVAL` for the root.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        if bytes.len() > MAX_REQUEST / 2 {
            return Err(Errno::ENAMETOOLONG);
        }
        for path in bytes.split(|&b| b == 0) {
            if TreePath::new(path)?.is_root() {
                return Err(Errno::EINVAL);
            }
        }
        Ok(Self(bytes))
    }

    /// The paths joined by NUL.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The paths, in order.
    pub fn iter(self) -> impl Iterator<Item = TreePath<'a>> + Clone {
        self.0.split(|&b| b == 0).filter(|path| !path.is_empty()).map(TreePath)
    }
}

/// [`TreePaths`] that own their bytes, to be built one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreePathsBuf(Vec<u8>);

impl TreePathsBuf {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the path of `name` in `dir`.
    ///
    /// # Errors
    /// As [`TreePathBuf::push`].
    pub fn push(&mut self, dir: TreePath<'_>, name: &[u8]) -> Result<(), Errno> {
        check_name(name)?;
        let len = dir.0.len().saturating_add(name.len()).saturating_add(2);
        if self.0.len().saturating_add(len) > MAX_REQUEST / 2 {
            return Err(Errno::ENAMETOOLONG);
        }
        if !self.0.is_empty() {
            self.0.push(0);
        }
        if !dir.is_root() {
            self.0.extend_from_slice(dir.0);
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
        Ok(())
    }

    /// The paths, borrowed.
    pub fn as_paths(&self) -> TreePaths<'_> {
        TreePaths(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_paths_come_back_as_pushed() {
        let mut paths = TreePathsBuf::new();
        paths.push(TreePath::new(b"a/b").unwrap(), b"c").unwrap();
        paths.push(TreePath::ROOT, b"d").unwrap();
        assert_eq!(paths.push(TreePath::ROOT, b".."), Err(Errno::EINVAL));
        let again = TreePaths::new(paths.as_paths().as_bytes()).unwrap();
        let all: Vec<_> = again.iter().map(TreePath::as_bytes).collect();
        assert_eq!(all, [&b"a/b/c"[..], b"d"]);
        for bad in [&b""[..], b"a\0", b"\0a", b"a\0\0b", b"a\0../b", b"/a"] {
            assert_eq!(TreePaths::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
    }

    #[test]
    fn only_plain_names_make_a_path() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert_eq!(TreePath::new(bad.as_bytes()), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(TreePath::new(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
        for good in ["", "a", "a/b", "...", "..a/b..", "\u{fc}/\n"] {
            assert!(TreePath::new(good.as_bytes()).is_ok(), "{good:?}");
        }
        assert!(TreePath::new(&[0xff, 0xfe]).is_ok());
    }

    #[test]
    fn a_path_splits_into_directory_and_name() {
        let path = TreePath::new(b"a/b/c").unwrap();
        let (parent, name) = path.split_last().unwrap();
        assert_eq!((parent.as_bytes(), name), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(TreePath::new(b"a").unwrap().split_last().unwrap().0, TreePath::ROOT);
        assert!(TreePath::ROOT.split_last().is_none());
        assert_eq!(path.names().count(), 3);
        assert_eq!(TreePath::ROOT.names().count(), 0);
    }

    #[test]
    fn long_paths_are_cut_between_names() {
        let name = [b'n'; 200];
        let path = TreePathBuf::from_names(std::iter::repeat_n(&name[..], 50)).unwrap();
        let (mut rest, mut names) = (path.as_path(), 0);
        while !rest.is_root() {
            let (head, tail) = rest.split_at_most(4000);
            assert!(head.as_bytes().len() <= 4000 && TreePath::new(head.as_bytes()).is_ok());
            names += head.names().count();
            rest = tail;
        }
        assert_eq!(names, 50);
        // A name that ends exactly at the limit stays whole.
        let path = TreePath::new(b"aaa/bbb/ccc").unwrap();
        assert_eq!(path.split_at_most(7).0.as_bytes(), b"aaa/bbb");
        assert_eq!(path.split_at_most(6).0.as_bytes(), b"aaa");
    }

    #[test]
    fn push_and_pop_are_inverse() {
        let mut path = TreePathBuf::new();
        path.push(b"a").unwrap();
        path.push(b"b").unwrap();
        assert!(path.pop());
        assert_eq!(path.as_path().as_bytes(), b"a");
        assert!(path.pop() && !path.pop());
        assert_eq!(path.push(b".."), Err(Errno::EINVAL));
    }
}
