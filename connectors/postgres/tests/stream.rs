//! The source against real servers: what it hands over, where it resumes, what it tells the server,
//! and what it refuses.

#[path = "stream/changes.rs"]
mod changes;
#[path = "stream/feedback.rs"]
mod feedback;
#[path = "stream/host.rs"]
mod host;
#[path = "stream/refusals.rs"]
mod refusals;
#[path = "stream/resume.rs"]
mod resume;
