//! Who maps a file, so that truncation can take pages away from them.

/// The mappings of one mappable object.
#[derive(Debug, Default)]
pub struct MappingSet {}
