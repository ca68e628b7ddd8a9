//! The operators that are imported: one line each.
//!
//! A line is the operator's name, the first opset version it is read at, and its import function, which looks at the version
//! itself where later ones differ. Most are of the default domain; those of ONNX Runtime's own come after them. Functions of one operand are the rows of [`unary::FUNCTIONS`].

use std::collections::BTreeMap;

use crate::context::ImportFn;
use crate::import::flex;
use crate::import::sequences;
use crate::ops::{
    activation, attention, classical, constant, conv, early, einsum, elementwise, fused, grams, indexing, linear,
    losses, movement, normalization, optimizers, pool, power, qlinear, quantize, recurrent, reduce, regions, resize,
    rotary, sampling, selection, shape, spectral, transformer, trees, trigonometry, unary, unique,
};
use crate::schema;

/// Name, first version, import function; in the order of the names.
const OPERATORS: &[(&str, i64, ImportFn)] = &[
    ("Acos", 7, trigonometry::acos),
    ("Acosh", 9, trigonometry::acosh),
    ("Add", 1, elementwise::add),
    ("Affine", 1, early::affine),
    ("AffineGrid", 20, sampling::affine_grid),
    ("And", 1, elementwise::and),
    ("ArgMax", 1, reduce::arg_max),
    ("ArgMin", 1, reduce::arg_min),
    ("Asin", 7, trigonometry::asin),
    ("Asinh", 9, trigonometry::asinh),
    ("Atan", 7, trigonometry::atan),
    ("Atanh", 9, trigonometry::atanh),
    ("Attention", 23, attention::attention),
    ("AveragePool", 1, pool::average_pool),
    ("BatchNormalization", 1, normalization::batch_normalization),
    ("BitCast", 26, elementwise::bit_cast),
    ("BitShift", 11, elementwise::bit_shift),
    ("BitwiseAnd", 18, elementwise::and),
    ("BitwiseNot", 18, elementwise::bitwise_not),
    ("BitwiseOr", 18, elementwise::or),
    ("BitwiseXor", 18, elementwise::xor),
    ("BlackmanWindow", 17, spectral::blackman_window),
    ("Cast", 1, elementwise::cast_to),
    ("CastLike", 15, elementwise::cast_like),
    ("CausalConvWithState", 27, attention::causal_conv_with_state),
    ("Celu", 12, activation::celu),
    ("CenterCropPad", 18, movement::center_crop_pad),
    ("Clip", 1, activation::clip),
    ("Col2Im", 18, conv::col2im),
    ("Compress", 9, selection::compress),
    ("Concat", 1, movement::concat),
    ("Constant", 1, constant::constant),
    ("ConstantOfShape", 9, constant::constant_of_shape),
    ("Conv", 1, conv::conv),
    ("ConvInteger", 10, quantize::conv_integer),
    ("ConvTranspose", 1, conv::conv_transpose),
    ("Cosh", 9, trigonometry::cosh),
    ("Crop", 1, early::crop),
    ("CumProd", 26, constant::cum_prod),
    ("CumSum", 11, constant::cum_sum),
    ("DFT", 17, spectral::dft),
    ("DeformConv", 19, regions::deform_conv),
    ("DepthToSpace", 1, movement::depth_to_space),
    ("DequantizeLinear", 10, quantize::dequantize_linear),
    ("Det", 11, linear::det),
    ("Div", 1, elementwise::div),
    ("Dropout", 1, shape::dropout),
    ("DynamicQuantizeLinear", 11, quantize::dynamic_quantize_linear),
    ("Einsum", 12, einsum::einsum),
    ("Equal", 1, elementwise::equal),
    ("Expand", 8, shape::expand_to),
    ("EyeLike", 9, constant::eye_like),
    ("Flatten", 1, shape::flatten),
    ("GRU", 1, recurrent::gru),
    ("Gather", 1, movement::gather),
    ("GatherElements", 11, movement::gather_elements),
    ("GatherND", 11, indexing::gather_nd),
    ("Gelu", 20, activation::gelu),
    ("Gemm", 1, linear::gemm),
    ("GlobalAveragePool", 1, reduce::global_average_pool),
    ("GlobalLpPool", 1, pool::global_lp_pool),
    ("GlobalMaxPool", 1, reduce::global_max_pool),
    ("Greater", 1, elementwise::greater),
    ("GreaterOrEqual", 12, elementwise::greater_or_equal),
    ("GridSample", 16, sampling::grid_sample),
    ("GroupNormalization", 18, normalization::group_normalization),
    ("HammingWindow", 17, spectral::hamming_window),
    ("HannWindow", 17, spectral::hann_window),
    ("Hardmax", 1, linear::hardmax),
    ("Identity", 1, shape::identity),
    ("ImageScaler", 1, early::image_scaler),
    ("InstanceNormalization", 1, normalization::instance_normalization),
    ("IsInf", 10, activation::is_inf),
    ("LRN", 1, normalization::lrn),
    ("LSTM", 1, recurrent::lstm),
    ("LayerNormalization", 1, normalization::layer_normalization),
    ("Less", 1, elementwise::less),
    ("LessOrEqual", 12, elementwise::less_or_equal),
    ("LinearAttention", 27, attention::linear_attention),
    ("LogSoftmax", 1, linear::log_softmax),
    ("LpNormalization", 1, normalization::lp_normalization),
    ("LpPool", 1, pool::lp_pool),
    ("MatMul", 1, linear::matmul),
    ("MatMulInteger", 10, quantize::matmul_integer),
    ("Max", 1, elementwise::max),
    ("MaxPool", 1, pool::max_pool),
    ("MaxUnpool", 9, regions::max_unpool),
    ("Mean", 1, elementwise::mean),
    ("MeanVarianceNormalization", 9, normalization::mean_variance_normalization),
    ("MelWeightMatrix", 17, spectral::mel_weight_matrix),
    ("Min", 1, elementwise::min),
    ("Mod", 10, elementwise::modulo),
    ("Mul", 1, elementwise::mul),
    ("NegativeLogLikelihoodLoss", 12, losses::negative_log_likelihood_loss),
    ("NonMaxSuppression", 10, selection::non_max_suppression),
    ("NonZero", 9, selection::non_zero),
    ("OneHot", 9, constant::one_hot),
    ("Or", 1, elementwise::or),
    ("PRelu", 1, activation::prelu),
    ("Pad", 1, movement::pad),
    ("ParametricSoftplus", 1, early::parametric_softplus),
    ("Pow", 1, power::pow),
    ("QLinearConv", 10, quantize::qlinear_conv),
    ("QLinearMatMul", 10, quantize::qlinear_matmul),
    ("QuantizeLinear", 10, quantize::quantize_linear),
    ("RMSNormalization", 23, normalization::rms_normalization),
    ("RNN", 1, recurrent::rnn),
    ("Range", 11, constant::range),
    ("ReduceL1", 1, reduce::reduce_l1),
    ("ReduceL2", 1, reduce::reduce_l2),
    ("ReduceLogSum", 1, reduce::reduce_log_sum),
    ("ReduceLogSumExp", 1, reduce::reduce_log_sum_exp),
    ("ReduceMax", 1, reduce::reduce_max),
    ("ReduceMean", 1, reduce::reduce_mean),
    ("ReduceMin", 1, reduce::reduce_min),
    ("ReduceProd", 1, reduce::reduce_prod),
    ("ReduceSum", 1, reduce::reduce_sum),
    ("ReduceSumSquare", 1, reduce::reduce_sum_square),
    ("Relu", 1, activation::relu),
    ("Reshape", 1, shape::reshape_to),
    ("Resize", 10, resize::resize),
    ("ReverseSequence", 10, indexing::reverse_sequence),
    ("RoiAlign", 10, regions::roi_align),
    ("RotaryEmbedding", 23, rotary::rotary_embedding),
    ("STFT", 17, spectral::stft),
    ("ScaledTanh", 1, early::scaled_tanh),
    ("Scatter", 9, indexing::scatter_elements),
    ("ScatterElements", 11, indexing::scatter_elements),
    ("ScatterND", 11, indexing::scatter_nd),
    ("Selu", 1, activation::selu),
    ("Shape", 1, shape::shape_of),
    ("Shrink", 9, activation::shrink),
    ("SimplifiedLayerNormalization", 1, normalization::rms_normalization),
    ("Sinh", 9, trigonometry::sinh),
    ("Size", 1, shape::size),
    ("Slice", 1, movement::slice),
    ("Softmax", 1, linear::softmax),
    ("SoftmaxCrossEntropyLoss", 12, losses::softmax_cross_entropy_loss),
    ("SpaceToDepth", 1, movement::space_to_depth),
    ("Split", 1, movement::split),
    ("Squeeze", 1, shape::squeeze),
    ("Sub", 1, elementwise::sub),
    ("Sum", 1, elementwise::sum),
    ("SwiGLU", 28, activation::swiglu),
    ("Tan", 7, trigonometry::tan),
    ("TensorScatter", 24, indexing::tensor_scatter),
    ("TfIdfVectorizer", 9, grams::tf_idf_vectorizer),
    ("Tile", 1, movement::tile),
    ("TopK", 1, reduce::top_k),
    ("Transpose", 1, movement::transpose_axes),
    ("Trilu", 14, constant::trilu),
    ("Unique", 11, unique::unique),
    ("Unsqueeze", 1, shape::unsqueeze),
    ("Upsample", 1, resize::upsample),
    ("Where", 9, elementwise::select),
    ("Xor", 1, elementwise::xor),
];

/// The domain of ONNX Runtime's own operators.
const MICROSOFT: &str = "com.microsoft";

/// Operators of ONNX Runtime's own domain, which has one version: name and import function, in the order of the names.
const RUNTIMES: &[(&str, ImportFn)] = &[
    ("Attention", transformer::packed_attention),
    ("BiasAdd", fused::bias_add),
    ("BiasGelu", fused::bias_gelu),
    ("BiasSoftmax", fused::bias_softmax),
    ("DequantizeLinear", quantize::dequantize_linear),
    ("DynamicQuantizeMatMul", qlinear::dynamic_quantize_matmul),
    ("EmbedLayerNormalization", transformer::embed_layer_normalization),
    ("FastGelu", fused::fast_gelu),
    ("FusedConv", fused::fused_conv),
    ("FusedGemm", fused::fused_gemm),
    ("FusedMatMul", fused::fused_matmul),
    ("FusedMatMulActivation", fused::fused_matmul),
    ("Gelu", activation::gelu),
    ("GridSample", sampling::grid_sample),
    ("GroupNorm", fused::group_norm),
    ("MatMulIntegerToFloat", qlinear::matmul_integer_to_float),
    ("MatMulNBits", transformer::matmul_nbits),
    ("MultiHeadAttention", transformer::multi_head_attention),
    ("NhwcMaxPool", qlinear::nhwc_max_pool),
    ("QGemm", qlinear::qgemm),
    ("QLinearAdd", qlinear::add),
    ("QLinearAveragePool", qlinear::average_pool),
    ("QLinearConcat", qlinear::concat),
    ("QLinearConv", qlinear::conv),
    ("QLinearGlobalAveragePool", qlinear::global_average_pool),
    ("QLinearLeakyRelu", qlinear::leaky_relu),
    ("QLinearMul", qlinear::mul),
    ("QLinearReduceMean", qlinear::reduce_mean),
    ("QLinearSigmoid", qlinear::sigmoid),
    ("QLinearSoftmax", qlinear::softmax),
    ("QLinearWhere", qlinear::select),
    ("QuantizeLinear", quantize::quantize_linear),
    ("QuickGelu", fused::quick_gelu),
    ("SkipLayerNormalization", fused::skip_layer_normalization),
    ("SkipSimplifiedLayerNormalization", fused::skip_layer_normalization),
    ("TransposeMatMul", fused::fused_matmul),
    ("Trilu", constant::trilu),
];

/// The domain of classical models.
const ML: &str = "ai.onnx.ml";

/// Operators of classical models: name, first version and import function, in the order of the names.
const CLASSICAL: &[(&str, i64, ImportFn)] = &[
    ("ArrayFeatureExtractor", 1, classical::array_feature_extractor),
    ("Binarizer", 1, classical::binarizer),
    ("LinearRegressor", 1, classical::linear_regressor),
    ("Normalizer", 1, classical::normalizer),
    ("Scaler", 1, classical::scaler),
    ("TreeEnsemble", 5, trees::tree_ensemble),
];

/// The domain of steps of training.
const TRAINING: &str = "ai.onnx.preview.training";

/// Steps of training: name, first version and import function, in the order of the names.
const OPTIMIZERS: &[(&str, i64, ImportFn)] =
    &[("Adagrad", 1, optimizers::adagrad), ("Adam", 1, optimizers::adam), ("Momentum", 1, optimizers::momentum)];

/// Operators with a body, which the importer itself takes apart.
const BODIES: &[(&str, i64)] = &[("If", 1), ("Loop", 1), ("Scan", 8)];

/// Whether an operator takes elements of fewer than 8 bits and 8-bit floats.
pub(crate) fn takes_narrow(op_type: &str) -> bool {
    matches!(op_type, "BitCast" | "Cast" | "CastLike" | "DequantizeLinear" | "QuantizeLinear" | "Shape" | "Size")
        || moves_narrow(op_type)
}

/// Whether an operator moves elements of fewer than 8 bits and 8-bit floats as they are.
pub(crate) fn moves_narrow(op_type: &str) -> bool {
    matches!(op_type, "Flatten" | "Identity" | "Pad" | "Reshape" | "Squeeze" | "Transpose" | "Unsqueeze")
}

/// Whether an operator stands for others: one with a body, or of sequences.
pub(crate) fn is_structural(op_type: &str, version: i64) -> bool {
    BODIES.iter().chain(sequences::OPERATORS).any(|(name, since)| *name == op_type && *since <= version)
}

/// The import function of an operator at an opset version; none where the operator set no longer has it.
pub(crate) fn lookup(domain: &str, op_type: &str, version: i64) -> Option<ImportFn> {
    let of =
        |list: &[(&str, ImportFn)]| list.binary_search_by(|(name, _)| (*name).cmp(op_type)).ok().map(|at| list[at].1);
    let since = |list: &[(&str, i64, ImportFn)]| {
        let at = list.binary_search_by(|(name, _, _)| (*name).cmp(op_type)).ok()?;
        (version >= list[at].1).then_some(list[at].2)
    };
    match domain {
        MICROSOFT => return of(RUNTIMES),
        ML => return since(CLASSICAL),
        TRAINING => return since(OPTIMIZERS),
        _ => {}
    }
    if !matches!(domain, "" | "ai.onnx") || matches!(schema::of("", op_type, version), schema::Found::Removed(_)) {
        return None;
    }
    if OPERATORS.binary_search_by(|(name, _, _)| (*name).cmp(op_type)).is_ok() {
        return since(OPERATORS);
    }
    unary::of_name(op_type).filter(|row| version >= row.since).map(|_| unary::import as ImportFn)
}

/// Name, domain and first version of every operator that is imported.
pub fn operators() -> Vec<(&'static str, &'static str, i64)> {
    let functions = unary::FUNCTIONS.iter().map(|row| (row.name, row.since));
    let own = OPERATORS.iter().map(|(name, since, _)| (*name, *since));
    let structural = BODIES.iter().chain(sequences::OPERATORS).copied();
    // A function with an import of its own is in both lists.
    let all: BTreeMap<&str, i64> = functions.chain(own).chain(structural).collect();
    let runtimes = RUNTIMES.iter().map(|(name, _)| (*name, MICROSOFT, 1));
    let classical = CLASSICAL.iter().map(|(name, since, _)| (*name, ML, *since));
    let training = OPTIMIZERS.iter().map(|(name, since, _)| (*name, TRAINING, *since));
    let flex = (flex::OPERATOR.1, flex::OPERATOR.0, 1);
    let own = all.into_iter().map(|(name, since)| (name, "", since));
    own.chain(classical).chain([flex]).chain(training).chain(runtimes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(RUNTIMES.is_sorted_by(|a, b| a.0 < b.0) && CLASSICAL.is_sorted_by(|a, b| a.0 < b.0));
        assert!(OPTIMIZERS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_operator_is_read_from_the_version_that_the_standard_has_it_from() {
        for (name, domain, since) in operators() {
            assert!(matches!(schema::of(domain, name, since), schema::Found::Schema(_)), "{name} {since}");
            assert!(matches!(schema::of(domain, name, since - 1), schema::Found::Since(_)), "{name} {since}");
        }
    }

    #[test]
    fn versions_and_domains_are_looked_at() {
        assert!(lookup("", "Gelu", 20).is_some());
        assert!(lookup("ai.onnx", "Gelu", 28).is_some());
        assert!(lookup("", "Gelu", 19).is_none());
        assert!(lookup("com.microsoft", "Gelu", 1).is_some());
        assert!(lookup("com.microsoft", "Relu", 1).is_none());
        assert!(lookup("", "gelu", 20).is_none());
        assert!(lookup("", "Upsample", 9).is_some());
        assert!(lookup("", "Upsample", 10).is_none());
    }
}
