//! `export!` and the logging macros. Expands to nothing outside a component, so that plugin crates test natively.

/// Makes a component of a plugin: `export!(MyPlugin: router, splitter)` exports its lifecycle and the named questions,
/// each of `router`, `splitter`, `affinity`, `scorer`. Once in a crate, which needs `crate-type = ["cdylib"]` (and
/// `"rlib"` where tests in `tests/` use it).
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($question:ident),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$plugin> = const { $crate::Instance::new() };
            }
            struct Exported;
            impl $crate::component::Exported for Exported {
                type Plugin = $plugin;
                fn ask<R>(question: impl FnOnce(&$crate::Instance<$plugin>) -> R) -> R {
                    INSTANCE.with(question)
                }
            }
            $crate::__export_one!(lifecycle Exported);
            $($crate::__export_one!($question Exported);)+
        };
        // Natively nothing is exported, yet a missing trait is reported all the same.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            $($crate::__export_one!(check $question $plugin);)+
        };
    };
}

/// One exported interface.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_one {
    (lifecycle $exported:ident) => {
        impl $crate::component::lifecycle::exports::witgate::policy::lifecycle::Guest for $exported {
            fn configure(
                config: ::std::string::String,
            ) -> ::core::result::Result<
                $crate::component::lifecycle::exports::witgate::policy::lifecycle::Manifest,
                ::std::string::String,
            > {
                $crate::component::configure::<Self>(&config)
            }
        }
        $crate::component::lifecycle::export_lifecycle!($exported with_types_in $crate::component::lifecycle);
    };
    (router $exported:ident) => {
        $crate::component::router::export_router!($exported with_types_in $crate::component::questions);
    };
    (splitter $exported:ident) => {
        $crate::component::splitter::export_splitter!($exported with_types_in $crate::component::questions);
    };
    (affinity $exported:ident) => {
        $crate::component::affinity::export_affinity!($exported with_types_in $crate::component::questions);
    };
    (scorer $exported:ident) => {
        $crate::component::scorer::export_scorer!($exported with_types_in $crate::component::questions);
    };
    (check router $plugin:ty) => {
        const fn router<P: $crate::Router>() {}
        router::<$plugin>();
    };
    (check splitter $plugin:ty) => {
        const fn splitter<P: $crate::Splitter>() {}
        splitter::<$plugin>();
    };
    (check affinity $plugin:ty) => {
        const fn affinity<P: $crate::Affinity>() {}
        affinity::<$plugin>();
    };
    (check scorer $plugin:ty) => {
        const fn scorer<P: $crate::Scorer>() {}
        scorer::<$plugin>();
    };
}

/// Logs at a level: `log!(Level::Warn, "…", …)`, formatted as `format!` does.
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => {
        $crate::host::log($level, &::std::format!($($message)+))
    };
}

/// Logs at level debug, formatted as `format!` does.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log!($crate::Level::Debug, $($message)+) };
}

/// Logs at level info, formatted as `format!` does.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::Level::Info, $($message)+) };
}

/// Logs at level warn, formatted as `format!` does.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log!($crate::Level::Warn, $($message)+) };
}

/// Logs at level error, formatted as `format!` does.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log!($crate::Level::Error, $($message)+) };
}
