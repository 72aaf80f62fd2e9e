/// How far a long work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The objects that are done.
    pub done_objects: u64,
    /// All objects.
    pub total_objects: u64,
    /// The bytes of the objects that are done, as they lie in the archive.
    pub done_bytes: u64,
    /// The bytes of all objects.
    pub total_bytes: u64,
}
