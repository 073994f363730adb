//! Deliveries are handled effectively once, on every store: with concurrent callers, several
//! processes, crashes, slow handlers and outages. PostgreSQL and Redis are real servers.
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a panic is a failed test"
)]

mod batches;
mod behaviours;
mod file;
mod fixture;
mod forgetful;
mod kills;
#[path = "../support/model.rs"]
mod model;
mod models;
mod outages;
mod postgres;
mod processes;
mod receiving;
mod servers;
mod tls;
mod transactions;
mod worker;
