//! Deliveries are handled effectively once, on every store: with concurrent callers, several
//! processes, crashes, slow handlers and outages. PostgreSQL and Redis are real servers.
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a panic is a failed test"
)]

mod batches;
mod behaviours;
#[path = "../support/block_on.rs"]
mod block_on;
mod file;
mod fixture;
mod forgetful;
mod inbox;
mod inbox_bounds;
mod inbox_held;
mod inbox_kills;
mod inbox_late;
mod inbox_outages;
mod inbox_plans;
mod inbox_schema;
mod kills;
#[path = "../support/model.rs"]
mod model;
mod models;
#[path = "../support/occupied.rs"]
mod occupied;
mod outages;
mod postgres;
mod processes;
mod receiving;
#[path = "../support/rng.rs"]
#[allow(dead_code, reason = "the simulated fleet uses more of it")]
mod rng;
mod servers;
mod tls;
mod transactions;
mod worker;
