//! Deliveries are handled effectively once, on every store: with concurrent callers, several
//! processes, crashes, slow handlers and outages. PostgreSQL and Redis are real servers.
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a panic is a failed test"
)]

mod behaviours;
mod fixture;
mod forgetful;
mod kills;
mod outages;
mod postgres;
mod processes;
mod receiving;
mod servers;
mod tls;
mod worker;
