//! The signature schemes, a file each.

pub(crate) mod hmac;
