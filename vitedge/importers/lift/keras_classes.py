"""The classes and functions by which a Keras config is read: those that only compute.

A config names classes and functions, and Keras makes whatever it names. What is named here takes
numbers, shapes and words and computes with them. What holds code (``Lambda``, wrappers of
functions), reads files (lookups of words, ``TFSMLayer``) or loads other formats
(``TorchModuleWrapper``) is not here.
"""

# ruff: noqa: SIM905 - tables of names read best as words

from __future__ import annotations

import re

_LAYERS = """
Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
AveragePooling2D AveragePooling3D BatchNormalization BatchNormalizationV1 BatchNormalizationV2
Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose
Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D CutMix
Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding
Equalization Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D
GlobalMaxPooling3D GroupNormalization GroupQueryAttention GroupedQueryAttention Identity InputLayer
LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPooling1D MaxPooling2D
MaxPooling3D Maximum Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute
RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization
RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom
ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding SeparableConv1D SeparableConv2D
SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
SpectralNormalization StackedRNNCells Subtract SyncBatchNormalization ThresholdedReLU
TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
ZeroPadding3D
"""

_INITIALIZERS = """
Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal
LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
VarianceScaling Zeros
"""
_REGULARIZERS = "L1 L1L2 L2 OrthogonalRegularizer"
_CONSTRAINTS = "MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm"
_POLICIES = "DTypePolicy DTypePolicyMap FloatDTypePolicy Policy PolicyV1 QuantizedDTypePolicy"
_QUANTIZERS = """
AbsMaxQuantizer Float8QuantizationConfig Int4QuantizationConfig Int8QuantizationConfig
"""

# ``keras.ops`` called on the tensors of a functional model; those that take functions are left out.
_NUMPY = """
Abs Absolute Add All Amax Amin Any Append Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2
Arctanh Argmax Argmin Argpartition Argsort Array Average Bincount BitwiseAnd BitwiseInvert
BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo Cbrt Ceil Clip
Concatenate Conj Conjugate Copy Cos Cosh CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagflat
Diagonal Diff Digitize Divide DivideNoNan Dot EmptyLike Einsum Equal Exp Exp2 ExpandDims Expm1 Flip
Floor FloorDivide Full FullLike GetItem Greater GreaterEqual Heaviside Hstack Hypot Imag Inner IsIn
Isclose Isfinite Isinf Isnan Kron LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 Logaddexp
Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Matmul Max Maximum Mean Median
Meshgrid Min Minimum Mod Moveaxis Multiply NanToNum Ndim Negative Nonzero NotEqual OnesLike Outer
Pad Power Prod Quantile Ravel Real Reciprocal Repeat Reshape RightShift Roll Rot90 Round
SearchSorted Select Sign Signbit Sin Sinc Sinh Size Sort Split Sqrt Square Squeeze Stack Std
Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile Trace Transpose Trapezoid Tril Triu
TrueDivide Trunc UnravelIndex Vander Var Vdot Vstack Where ZerosLike
"""
_NN = """
AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose DepthToSpace
DepthwiseConv DotProductAttention Elu Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm
LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot Normalize OneHot RMSNorm Relu Relu6 Selu
SeparableConv Sigmoid Silu SoftShrink Softmax Softplus Softsign SpaceToDepth SparsePlus
SparseSigmoid Sparsemax Squareplus TanhShrink Threshold Unfold
"""
_MATH = """
Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 IRFFT InTopK Logsumexp RFFT Rsqrt SegmentMax
SegmentSum TopK
"""
_IMAGE = """
AffineTransform CropImages ExtractPatches GaussianBlur HSVToRGB MapCoordinates PadImages
PerspectiveTransform RGBToGrayscale RGBToHSV Resize ScaleAndTranslate
"""
_LINALG = "Cholesky Det Eigh Inv Norm Qr SVD Solve SolveTriangular"
_CORE = (
    "Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient Unstack"
)

CLASSES: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (re.compile(rf"(?:tf_)?keras(?:\.src)?{modules}"), frozenset(names.split()))
    for modules, names in (
        (r"\.layers(?:\.[a-z_0-9.]+)?", _LAYERS),
        (r"\.initializers(?:\.[a-z_0-9.]+)?", _INITIALIZERS),
        (r"\.regularizers(?:\.[a-z_0-9.]+)?", _REGULARIZERS),
        (r"\.constraints(?:\.[a-z_0-9.]+)?", _CONSTRAINTS),
        (r"(?:\.(?:dtype_policies|mixed_precision)(?:\.[a-z_0-9.]+)?)?", _POLICIES),
        (
            r"(?:\.(?:models|engine))?(?:\.(?:functional|sequential|model|training))?",
            "Functional Model Sequential",
        ),
        (r"\.quantizers(?:\.[a-z_0-9.]+)?", _QUANTIZERS),
        (r"\.applications\.convnext", "LayerScale"),
        (r"\.ops\.numpy", _NUMPY),
        (r"\.ops\.nn", _NN),
        (r"\.ops\.math", _MATH),
        (r"\.ops\.image", _IMAGE),
        (r"\.ops\.linalg", _LINALG),
        (r"\.ops\.core", _CORE),
    )
)
"""Modules of Keras, and the names of their classes that only compute."""

CLASSES_OF_KERAS_2 = frozenset().union(*(names for _, names in CLASSES[:7]))
"""Names without a module, as Keras 2 and ``.h5`` files have them."""

VALUES = frozenset(
    "__bytes__ __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__ "
    "TensorShape".split()
)
"""Serialized values that are not objects of a class."""

ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu
    linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus
    softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """.split()
)
"""Functions that a config may name."""


def _spellings(names: str) -> frozenset[str]:
    """``GlorotUniform``, ``glorotuniform`` and ``glorot_uniform``, all in lower case."""
    return frozenset(name.lower() for name in names.split())


WORDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("activation", frozenset(name.replace("_", "") for name in ACTIVATIONS)),
    ("initializer", _spellings(_INITIALIZERS) | {"uniform", "normal", "zero", "one"}),
    ("regularizer", _spellings(_REGULARIZERS)),
    ("constraint", _spellings(_CONSTRAINTS)),
)
"""What a layer's argument of such a name may say as a word, without case and underscores."""

VITEDGE = frozenset(
    f"vitedge>{name}"
    for name in "NetworkModel TokenEmbedding TokenNorm TransformerBlock VisionTransformer".split()
)

_HUB_FAMILIES = """
CSPNet DeiT DenseNet EfficientNet HGNetV2 MiT MobileNet MobileNetV5 ResNet SwinTransformer VGG ViT
Xception
"""
KERAS_HUB = frozenset(
    [
        f"keras_hub>{family}{part}"
        for family in ("", *_HUB_FAMILIES.split())
        for part in ("Backbone", "ImageClassifier", "ImageClassifierPreprocessor", "ImageConverter")
    ]
)
"""Image classifiers of KerasHub, whose tokenizers and other presets read files."""

TENSORFLOW_FUNCTIONS = frozenset(
    """
    __operators__.add __operators__.getitem argmax argmin broadcast_to cast clip_by_value concat
    constant convert_to_tensor cumsum einsum expand_dims eye fill gather gather_nd identity linspace
    meshgrid norm one_hot ones ones_like pad range rank repeat reshape reverse roll shape size slice
    split sqrt square squeeze stack stop_gradient strided_slice tensordot tile transpose unstack
    where zeros zeros_like
    image.adjust_brightness image.adjust_contrast image.central_crop image.convert_image_dtype
    image.crop_to_bounding_box image.extract_image_patches image.extract_patches
    image.grayscale_to_rgb image.pad_to_bounding_box image.per_image_standardization image.resize
    image.resize_bilinear image.resize_bicubic image.resize_nearest_neighbor image.rgb_to_grayscale
    image.resize_with_pad
    linalg.band_part linalg.diag linalg.einsum linalg.l2_normalize linalg.matmul
    linalg.matrix_transpose linalg.norm linalg.tensordot linalg.trace math.abs math.acos math.add
    math.add_n math.argmax math.argmin math.asin math.atan math.ceil math.cos math.cosh math.cumsum
    math.divide math.divide_no_nan math.equal math.erf math.erfc math.exp math.expm1 math.floor
    math.floordiv math.floormod math.greater math.greater_equal math.l2_normalize math.less
    math.less_equal math.log math.log1p math.log_sigmoid math.log_softmax math.logical_and
    math.logical_not math.logical_or math.maximum math.minimum math.mod math.multiply
    math.multiply_no_nan math.negative math.not_equal math.pow math.reciprocal math.reduce_all
    math.reduce_any math.reduce_logsumexp math.reduce_max math.reduce_mean math.reduce_min
    math.reduce_prod math.reduce_std math.reduce_sum math.reduce_variance math.round math.rsqrt
    math.scalar_mul math.sigmoid math.sign math.sin math.sinh math.softmax math.softplus math.sqrt
    math.square math.squared_difference math.subtract math.tan math.tanh math.top_k math.truediv
    math.xdivy
    nn.avg_pool nn.avg_pool2d nn.batch_normalization nn.bias_add nn.conv1d nn.conv2d
    nn.conv2d_transpose nn.depth_to_space nn.depthwise_conv2d nn.dropout nn.elu nn.gelu
    nn.l2_normalize nn.leaky_relu nn.local_response_normalization nn.log_softmax nn.max_pool
    nn.max_pool2d nn.moments nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax nn.softplus
    nn.softsign nn.space_to_depth nn.swish nn.tanh
    """.split()
)
"""What ``TFOpLambda`` of Keras 2 may call, by TensorFlow's names, also after ``compat.v1.``."""
