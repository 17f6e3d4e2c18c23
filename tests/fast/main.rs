//! Everything that needs no other program.

#[path = "../support/regex_cases.rs"]
mod regex_cases;
#[path = "../support/ugly_routes.rs"]
mod ugly_routes;

mod compile_route;
