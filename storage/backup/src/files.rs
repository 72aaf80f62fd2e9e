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

    /// Opens a place to read from it: nothing is made.
    ///
    /// # Errors
    /// [`Error::Target`] if the target can't be one.
    pub fn open_to_read(target: &Target) -> Result<Self, Error> {
        Objects::open(target, false).map(Self)
    }

    /// Returns the names of all files below the target, in their order.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Refused`].
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = self.0.list("").await?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unavailable`] or [`Error::Refused`].
    pub async fn read(&self, name: &str) -> Result<Bytes, Error> {
        self.0.get(name).await
    }
}
