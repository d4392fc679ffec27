/// Defines a function that a profiler must find in a stack, and one inside it that makes the system
/// call.
///
/// libc has no frame pointers, so a walk by frame pointers loses whoever called it: the inner
/// function is there to be lost, the outer one survives. Neither is inlined, neither ends in a tail
/// call, and as each mentions its own name the compiler cannot merge two with equal bodies.
#[macro_export]
macro_rules! oracle_fn {
    ($(#[$meta:meta])* fn $outer:ident / $inner:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        #[inline(never)]
        fn $inner($($arg: $ty),*) $(-> $ret)? {
            std::hint::black_box(stringify!($inner));
            std::hint::black_box($body)
        }

        $(#[$meta])*
        #[inline(never)]
        fn $outer($($arg: $ty),*) $(-> $ret)? {
            std::hint::black_box(stringify!($outer));
            std::hint::black_box($inner($($arg),*))
        }
    };
}

/// The demangled names of a function of [`oracle_fn!`] and of the one inside it.
#[macro_export]
macro_rules! oracle_name {
    ($outer:ident / $inner:ident) => {
        $crate::report::Function {
            outer: concat!(module_path!(), "::", stringify!($outer)),
            inner: concat!(module_path!(), "::", stringify!($inner)),
        }
    };
}
