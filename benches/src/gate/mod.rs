//! How often the comparison of two versions is wrong: its own error rates, measured.
//!
//! It owns two pools of real runs, of one program and of the same with a planted slowdown, and the drawing of comparisons from them. It
//! judges with [`reports::compare`] alone, as `lab --compare` does, more pairs for the undecided included. It refuses pools too small
//! for what is drawn.

pub mod draw;
pub mod pool;
