//! The guide: from the first worker to operating a deployment. Every example in it is compiled, and most are run.
//!
//! 1. [Getting started](getting_started)
//! 2. [Retries](retries)
//! 3. [Flows](flows)
//! 4. [Suspension and signed callbacks](suspension)
//! 5. [Budgets and quotas](budgets)
//! 6. [Recipes, and what things are called](recipes)
//! 7. [Testing](testing)
//! 8. [Operating](operating)
//! 9. [Writing your own backend](backends)

#[doc = include_str!("getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("retries.md")]
pub mod retries {}

#[doc = include_str!("flows.md")]
pub mod flows {}

#[doc = include_str!("suspension.md")]
pub mod suspension {}

#[doc = include_str!("budgets.md")]
pub mod budgets {}

#[cfg(feature = "memory")]
#[doc = include_str!("recipes.md")]
pub mod recipes {}

#[cfg(feature = "memory")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[cfg(feature = "memory")]
#[doc = include_str!("backends.md")]
pub mod backends {}
