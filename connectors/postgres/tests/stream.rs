//! The source against real servers: what it hands over, where it resumes, what it tells the server,
//! and what it refuses.

#[cfg(test)]
#[path = "stream/binary.rs"]
mod binary;
#[cfg(test)]
#[path = "stream/changes.rs"]
mod changes;
#[cfg(test)]
#[path = "stream/check.rs"]
mod check;
#[cfg(test)]
#[path = "stream/check_keys.rs"]
mod check_keys;
#[cfg(test)]
#[path = "stream/feedback.rs"]
mod feedback;
#[cfg(test)]
#[path = "stream/gaps.rs"]
mod gaps;
#[cfg(test)]
#[path = "stream/generated.rs"]
mod generated;
#[cfg(test)]
#[path = "stream/guard.rs"]
mod guard;
#[cfg(test)]
#[path = "stream/hazards.rs"]
mod hazards;
#[cfg(test)]
#[path = "stream/hidden.rs"]
mod hidden;
#[cfg(test)]
#[path = "stream/host.rs"]
mod host;
#[cfg(test)]
#[path = "stream/large.rs"]
mod large;
#[cfg(test)]
#[path = "stream/locks.rs"]
mod locks;
#[cfg(test)]
#[path = "stream/logs.rs"]
mod logs;
#[cfg(test)]
#[path = "stream/messages.rs"]
mod messages;
#[cfg(test)]
#[path = "stream/prepared.rs"]
mod prepared;
#[cfg(test)]
#[path = "stream/print_sql.rs"]
mod print_sql;
#[cfg(test)]
#[path = "stream/proxy.rs"]
mod proxy;
#[cfg(test)]
#[path = "stream/refusals.rs"]
mod refusals;
#[cfg(test)]
#[path = "stream/reselect.rs"]
mod reselect;
#[cfg(test)]
#[path = "stream/resume.rs"]
mod resume;
#[cfg(test)]
#[path = "stream/room.rs"]
mod room;
#[cfg(test)]
#[path = "stream/rows.rs"]
mod rows;
#[cfg(test)]
#[path = "stream/standby.rs"]
mod standby;
#[cfg(test)]
#[path = "stream/streamed.rs"]
mod streamed;
#[cfg(test)]
#[path = "stream/values.rs"]
mod values;
