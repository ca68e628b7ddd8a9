use fornax_compiler::kernels::*;
use fornax_compiler::codegen::{x86, epilogue::Epilogue};
use fornax_compiler::scalar::UnaryFn;
use fornax_compiler::target::*;
fn main() {
    let s = Conv::pointwise(5, 1, 32, Epilogue::new(Some(UnaryFn::Silu), false, false));
    let mut all = vec![];
    for level in [Level::Fma, Level::Avx2, Level::Avx512] {
        let t = Target::new(Arch::X86_64, level);
        let k = Kernel::new(s.clone(), &t);
        let mut bufs: Vec<Vec<u8>> = k.arguments.iter().map(|a| {
            (0..a.bytes / 4).flat_map(|i| if a.access == Access::Read { ((i as f32 * 0.37).sin() * 2.0).to_le_bytes() } else { [0xff; 4] }).collect()
        }).collect();
        fornax_compiler::emit::jit::run_kernel(&k, &t, &mut bufs, u32::MAX).unwrap();
        let y: Vec<f32> = bufs.last().unwrap().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        println!("{t} {:?}", &y[..6]);
        all.push(y);
        if std::env::args().nth(1).as_deref() == Some("asm") && level == Level::Avx2 {
            let code = x86::compile(&t, "x", |e| k.emit(e)).unwrap();
            println!("{}", x86::disassemble(&code));
        }
    }
    for i in 1..3 { let d = all[0].iter().zip(&all[i]).enumerate().find(|(_, (a, b))| a.to_bits() != b.to_bits()); println!("{i} {:?}", d); }
}
