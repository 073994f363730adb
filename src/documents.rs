//! Lets the compiler check the examples of the documents.

#[cfg(all(
    feature = "configure",
    feature = "diagnose",
    feature = "reqwest",
    feature = "sqlite",
    feature = "testing"
))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "http")]
#[doc = include_str!("../docs/migrating.md")]
struct Migrating;

#[cfg(all(feature = "diagnose", feature = "http"))]
#[doc = include_str!("../docs/troubleshooting.md")]
struct Troubleshooting;

#[cfg(all(feature = "http", feature = "postgres", feature = "sqlite"))]
#[doc = include_str!("../docs/inbox.md")]
struct Inbox;
