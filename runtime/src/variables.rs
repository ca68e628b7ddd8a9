//! The parameters and states of a session, by name and as a whole.
//!
//! In: a session between two runs. Out: tensors of what it holds, and the whole state block as bytes that a session of the same
//! variables takes back. The block is allocated and filled when the session begins; runs change it in place.

use xxhash_rust::xxh64::xxh64;

use crate::arena::copy_to_zeroed;
use crate::artifact::{STATE_MAGIC, STATE_VERSION, StateHead};
use crate::error::{Error, PortKind};
use crate::port::Port;
use crate::session::Session;
use crate::state::{StateParts, Variable, VariableKind};
use crate::tensor::Tensor;

impl Session {
    /// Parameters of the program, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &Port> {
        self.variables(VariableKind::Parameter)
    }

    /// States of the program, in order.
    pub fn states(&self) -> impl Iterator<Item = &Port> {
        self.variables(VariableKind::State)
    }

    fn variables(&self, kind: VariableKind) -> impl Iterator<Item = &Port> {
        let variables = self.program().state().variables.iter();
        variables.filter(move |variable| variable.kind == kind).map(|variable| &variable.port)
    }

    fn variable(&self, name: &str) -> Result<&Variable, Error> {
        let state = self.program().state();
        state.find(name).ok_or_else(|| {
            let names = state.variables.iter().map(|variable| format!("`{}`", variable.port.name));
            let known = names.collect::<Vec<_>>().join(", ");
            let expected = if known.is_empty() { "none".to_owned() } else { format!("one of {known}") };
            Error::NoVariable { expected, found: name.to_owned() }
        })
    }

    /// What the parameter or state called `name` holds now.
    ///
    /// # Errors
    /// [`Error::NoVariable`] if there is none, [`Error::Allocation`] if there is no memory for the tensor.
    pub fn parameter(&self, name: &str) -> Result<Tensor, Error> {
        let variable = self.variable(name)?;
        let bytes = &self.frame.state()[StateParts::range(variable)];
        Tensor::from_bytes(variable.port.dtype, variable.port.shape.clone(), bytes)
    }

    /// Writes the parameter or state called `name`; the next run reads it.
    ///
    /// # Errors
    /// [`Error::NoVariable`] if there is none, [`Error::PortDType`] or [`Error::PortShape`] if it is of another type.
    pub fn set_parameter(&mut self, name: &str, value: &Tensor) -> Result<(), Error> {
        let variable = self.variable(name)?;
        variable.port.check(PortKind::Variable, value)?;
        let range = StateParts::range(variable);
        self.frame.state_mut()[range].copy_from_slice(value.bytes());
        Ok(())
    }

    /// Writes the elements of the parameter or state called `name`, row-major and little-endian.
    ///
    /// # Errors
    /// [`Error::NoVariable`] if there is none, [`Error::State`] if it has another number of bytes.
    pub fn set_parameter_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let range = StateParts::range(self.variable(name)?);
        if range.len() != bytes.len() {
            let (expected, found) = (format!("{} bytes of {name}", range.len()), format!("{} bytes", bytes.len()));
            return Err(Error::State { field: "size", expected, found });
        }
        self.frame.state_mut()[range].copy_from_slice(bytes);
        Ok(())
    }

    /// Size of what [`Session::save_state`] returns; 0 for a program without parameters and states.
    pub fn state_bytes(&self) -> usize {
        let state = self.program().state();
        if state.variables.is_empty() { 0 } else { StateHead::SIZE + state.bytes }
    }

    /// All parameters and states as they are now, with a header that tells their layout and a hash. These are the bytes that the C
    /// function `state_save` of a compiled library writes.
    pub fn save_state(&self) -> Vec<u8> {
        let (head, state) = self.state_parts();
        let mut saved = vec![0; self.state_bytes()];
        if let Some((to, rest)) = saved.split_at_mut_checked(head.len()) {
            to.copy_from_slice(&head);
            copy_to_zeroed(state, rest);
        }
        saved
    }

    /// The two parts of [`Session::save_state`], one after the other: the header, and the block itself, of which no copy is made.
    pub fn state_parts(&self) -> (Vec<u8>, &[u8]) {
        let bytes = self.state_bytes();
        if bytes == 0 {
            return (Vec::new(), &[]);
        }
        let state = self.frame.state();
        let mut saved = Vec::with_capacity(StateHead::SIZE);
        let head = StateHead {
            magic: STATE_MAGIC,
            version: STATE_VERSION,
            bytes: bytes as u64,
            layout: self.program().state().layout(),
            hash: xxh64(state, 0),
            ..StateHead::default()
        };
        head.write(&mut saved);
        (saved, state)
    }

    /// Puts back what [`Session::save_state`] returned, of this session or of another one whose program has the same variables.
    ///
    /// # Errors
    /// [`Error::State`] if the bytes are something else, of other variables, cut short or damaged; the session is then as before.
    pub fn restore_state(&mut self, saved: &[u8]) -> Result<(), Error> {
        let wrong = |field, expected: String, found: String| Err(Error::State { field, expected, found });
        let bytes = self.state_bytes();
        if saved.len() != bytes {
            return wrong("size", format!("{bytes} bytes"), format!("{} bytes", saved.len()));
        }
        let Some((head, variables)) = StateHead::read(saved).zip(saved.get(StateHead::SIZE..)) else { return Ok(()) };
        let layout = self.program().state().layout();
        let StateHead { reserved, reserved_a, reserved_b, reserved_c, .. } = head;
        if head.magic != STATE_MAGIC {
            return wrong("magic", format!("{STATE_MAGIC:016x}"), format!("{:016x}", head.magic));
        }
        if head.version != STATE_VERSION {
            return wrong("version", STATE_VERSION.to_string(), head.version.to_string());
        }
        if head.bytes != bytes as u64 {
            return wrong("stated size", bytes.to_string(), head.bytes.to_string());
        }
        if head.layout != layout {
            return wrong("layout", format!("{layout:016x}"), format!("{:016x}, that of other variables", head.layout));
        }
        if [reserved.into(), reserved_a, reserved_b, reserved_c] != [0; 4] {
            return wrong("reserved fields", "0".to_owned(), "other values".to_owned());
        }
        let hash = xxh64(variables, 0);
        if head.hash != hash {
            return wrong("hash", format!("{:016x}", head.hash), format!("{hash:016x}"));
        }
        self.frame.state_mut().copy_from_slice(variables);
        Ok(())
    }

    /// Takes over the parameters and states of another session whose program has the same variables. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::State`] if its variables are others.
    pub fn copy_state(&mut self, from: &Session) -> Result<(), Error> {
        from.program().state().expect_same(self.program().state())?;
        self.frame.state_mut().copy_from_slice(from.frame.state());
        Ok(())
    }
}
