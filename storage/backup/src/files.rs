use bytes::Bytes;

use crate::{
    Error, Target,
    archive::{Objects, Put},
};

/// Files of others than archives on an object store: written once, under a name that follows from what they hold, and read back.
#[derive(Debug)]
pub struct Files(Objects);

impl Files {
    /// Opens the place, which is made if it is a folder that is not there.
    ///
    /// # Errors
    /// [`Error::Target`] if the target can't be one.
    pub fn open(target: &Target) -> Result<Self, Error> {
        Objects::open(target, true).map(Self)
    }

    /// Writes a file below the target, with the target's object lock, unless it is there. Tells whether what lies there now is what was
    /// given.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`], [`Error::Full`], or [`Error::Damaged`] if what is read back is not what was written.
    pub async fn create(&self, name: &str, content: Bytes) -> Result<bool, Error> {
        Ok(matches!(self.0.create(name, content).await?, Put::Written(_)))
    }
}
