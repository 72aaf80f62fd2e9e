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

impl Progress {
    /// Begins with chunks and segments of these sizes to read.
    pub(crate) fn over(sizes: impl Iterator<Item = u64>) -> Self {
        let add = |(objects, bytes), size| (objects + 1, bytes + size);
        let (total_objects, total_bytes) = sizes.fold((0, 0), add);
        Self { total_objects, total_bytes, ..Self::default() }
    }

    /// Counts an object of this size that is done.
    pub(crate) fn count(&mut self, size: u64) {
        self.done_objects += 1;
        self.done_bytes += size;
    }
}
