//! Types behind a pointer, for traits that are used as objects.

use std::{error::Error, pin::Pin};

/// Any error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A future in a box, so that a trait with async methods can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
