//! Tests of the exchange: a client, upstream peers and plugins that follow scripts, and a driver
//! that keeps the contract of [`super`] and checks that the exchange keeps it too.
//!
//! ```text
//! tables: proxied failures local bodies holds … ─► case ─┐      ┌─ double: plugins, snapshots
//! seeds:  plan ─► sim ───────────────────────────────────┴► world ─ script: client, peers
//!                                                                    └─ naive: what came out
//! ```

mod bodies;
mod case;
mod double;
mod failures;
mod holds;
mod limits;
mod local;
mod naive;
mod plan;
mod proxied;
mod reasons;
mod reroute;
mod script;
mod sim;
mod tunnel_sim;
mod tunnels;
mod world;
