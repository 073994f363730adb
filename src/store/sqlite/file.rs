//! The identity of the database's file.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// An open file that is deleted can still be read and written, but nobody else will ever see it.
pub(super) struct File {
    path: PathBuf,
    identity: Identity,
}

type Identity = (u64, u64);

impl File {
    /// `None` for a database in memory.
    pub(super) fn at(path: &Path) -> Option<Self> {
        // The working directory may change.
        let path = fs::canonicalize(path).ok()?;
        let identity = identity(&fs::metadata(&path).ok()?);
        Some(Self { path, identity })
    }

    /// Fails if the file was deleted or replaced, or may not be written.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let Ok(metadata) = fs::metadata(&self.path) else {
            return Err(StoreError::refused("its file is missing"));
        };
        if identity(&metadata) != self.identity {
            return Err(StoreError::refused(
                "its file was replaced while it was open",
            ));
        }
        if metadata.permissions().readonly() {
            return Err(StoreError::refused("its file is read-only"));
        }
        Ok(())
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Elsewhere, an open file can't be deleted.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}
