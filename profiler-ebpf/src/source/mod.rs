//! What a thread waited for, down to the descriptor and the socket behind it.

// What reads a file, a socket and an item of an epoll instance stands alone: whoever knows one can use it.
pub mod epoll;
pub mod file;
mod offsets;
pub mod socket;
