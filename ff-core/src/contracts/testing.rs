//! What the tests of argument checks share.

use crate::bounds::{CheckArgs, Deployment};
use crate::refusal::{Code, Details};

/// The code that a deployment with the default bounds refuses the arguments with.
pub(super) fn refused_code(args: &impl CheckArgs) -> Option<Code> {
    args.check(&Deployment::default()).err().map(|refusal| refusal.code())
}

/// The field of its `invalid_input`.
pub(super) fn refused_field(args: &impl CheckArgs) -> Option<String> {
    args.check(&Deployment::default()).err().map(|refusal| match refusal.details() {
        Details::InvalidInput { field } => field.clone(),
        other => panic!("no invalid_input: {other:?}"),
    })
}
