//! What a thread waited for, down to the descriptor and the socket behind it: looked for at the moment when
//! it is woken, in the context of whoever wakes it. What is not certain is not named.

// What reads a file, a socket and an item of an epoll instance stands alone: whoever knows one can use it.
pub mod callback;
pub mod epoll;
pub mod file;
mod find;
mod maps;
mod offsets;
mod poll;
mod queue;
pub mod ready;
pub mod reason;
pub mod socket;
mod syscall;

pub use self::find::find;
pub use self::syscall::Call;
