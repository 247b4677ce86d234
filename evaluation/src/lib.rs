//! x
mod error;
mod input { #[derive(Debug)] pub struct Place; impl std::fmt::Display for Place { fn fmt(&self, f:&mut std::fmt::Formatter<'_>)->std::fmt::Result{ write!(f,"x") } } }
mod ptb;
mod python;
