//! Events and what is made of them.
