"""The TensorFlow operators that only compute, by which a SavedModel is read.

Everything here maps tensors to tensors, or reads and writes the model's own variables. What reads
or writes files, prints, runs Python, starts threads of its own or talks to other processes is not
here, and neither is what nobody needs to classify images.
"""

# ruff: noqa: SIM905 - a table of operators reads best as words

from __future__ import annotations

_ARITHMETIC = """
Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh
Atan Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e Betainc Bincount Bitcast BitwiseAnd BitwiseOr
BitwiseXor Bucketize Cast Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum
CumulativeLogsumexp DenseBincount Digamma Div DivNoNan Equal Erf Erfc Erfinv EuclideanNorm Exp Expm1
Floor FloorDiv FloorMod Greater GreaterEqual Igamma Igammac Imag Inv Invert InvertPermutation
IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma LinSpace Log Log1p LogicalAnd LogicalNot
LogicalOr Max Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual NthElement
Polygamma PopulationCount Pow Prod Range Real RealDiv Reciprocal RightShift Rint Round Rsqrt
SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Sigmoid Sign Sin Sinh Sqrt Square
SquaredDifference Sub Sum Tan Tanh TopK TopKV2 TruncateDiv TruncateMod UnsortedSegmentMax
UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta
"""

_MATRICES = """
BandedTriangularSolve BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchMatrixBandPart BatchMatrixDiag
Cholesky Diag DiagPart Einsum FFT FFT2D FFT3D IFFT IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D
LogMatrixDeterminant MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart
MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag
MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D
SelfAdjointEigV2 Svd
"""

_ARRAYS = """
BatchToSpace BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo Concat ConcatOffset
ConcatV2 Const DeepCopy DepthToSpace DynamicPartition DynamicStitch Empty EnsureShape ExpandDims
ExtractImagePatches ExtractVolumePatches Fill Gather GatherNd GatherV2 GuaranteeConst
HistogramFixedWidth Identity IdentityN InTopK InTopKV2 ListDiff LowerBound MirrorPad OneHot OnesLike
Pack Pad PadV2 ParallelConcat ParallelDynamicStitch Placeholder PlaceholderV2 PlaceholderWithDefault
PreventGradient Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
ScatterNdNonAliasingAdd Select SelectV2 Shape ShapeN Size Slice Snapshot SpaceToBatch SpaceToBatchND
SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice TensorScatterAdd TensorScatterMax
TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile Transpose
ConjugateTranspose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
UpperBound Where ZerosLike
XlaDynamicUpdateSlice
"""

_NETWORKS = """
AdjustContrastv2 AdjustHue AdjustSaturation AvgPool AvgPool3D BatchNormWithGlobalNormalization
BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D
Conv3DBackpropInputV2 CropAndResize DataFormatDimMap DataFormatVecPermute DepthwiseConv2dNative
Dequantize Dilation2D Elu FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
FakeQuantWithMinMaxVarsPerChannel FractionalAvgPool FractionalMaxPool FusedBatchNorm
FusedBatchNormV2 FusedBatchNormV3 HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3
L2Loss LRN LeakyRelu LogSoftmax MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax NonMaxSuppressionV3
NonMaxSuppressionV4 NonMaxSuppressionV5 QuantizeAndDequantize QuantizeAndDequantizeV2
QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 RGBToHSV Relu Relu6 ResizeArea
ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate Selu Softmax
SoftmaxCrossEntropyWithLogits Softplus Softsign SparseSoftmaxCrossEntropyWithLogits
"""

# Exports carry the gradients of their functions along.
_GRADIENTS = """
AvgPoolGrad BiasAddGrad Conv2DBackpropFilter Conv2DBackpropFilterV2 Conv3DBackpropFilterV2
DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput EluGrad FusedBatchNormGrad
FusedBatchNormGradV2 FusedBatchNormGradV3 LRNGrad LeakyReluGrad MaxPoolGrad MaxPoolGradV2
MirrorPadGrad ReciprocalGrad Relu6Grad ReluGrad ResizeBicubicGrad ResizeBilinearGrad
ResizeNearestNeighborGrad RsqrtGrad SeluGrad SigmoidGrad SoftplusGrad SoftsignGrad SqrtGrad
StridedSliceGrad TanhGrad
"""

_RANDOM = """
Multinomial RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt RngReadAndSkip RngSkip
StatefulStandardNormal StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
StatefulUniformFullInt StatefulUniformInt StatelessMultinomial StatelessRandomGetAlg
StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformFullInt
StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2
TruncatedNormal
"""

# Optimizers change variables and nothing else.
_VARIABLES = """
ApplyAdam ApplyGradientDescent ApplyMomentum ApplyRMSProp ResourceApplyAdam
ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum ResourceApplyRMSProp
Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp
DestroyResourceOp DisableCopyOnRead IsVariableInitialized ReadVariableOp ResourceGather
ResourceGatherNd ResourceScatterAdd ResourceScatterUpdate VarHandleOp VarIsInitializedOp Variable
VariableShape VariableV2
"""

# Keras 2 saves the step by which Normalization adapted: it takes an iterator and the next batch of
# it. Nothing on the list makes an iterator, so it cannot be run.
_ADAPTING = "IteratorGetNext"

_CONTROL = """
Assert Case CheckNumerics CheckNumericsV2 ControlTrigger EmptyTensorList Enter Exit If LoopCond
Merge NextIteration NoOp PartitionedCall RefEnter RefExit RefIdentity RefMerge RefNextIteration
RefSwitch StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch TensorArrayCloseV3
TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3
TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcatV2 TensorListElementShape
TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack
TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2 TensorListSetItem
TensorListSplit TensorListStack While
"""

# Names of files are put together before anything is saved, and names of classes looked up.
_TEXT = """
HashTable HashTableV2 InitializeTable InitializeTableV2 LookupTableFind LookupTableFindV2
LookupTableSize LookupTableSizeV2 ShardedFilename StaticRegexFullMatch StringJoin
"""

ALLOWED = frozenset(
    " ".join(
        [
            _ARITHMETIC,
            _MATRICES,
            _ARRAYS,
            _NETWORKS,
            _GRADIENTS,
            _RANDOM,
            _VARIABLES,
            _ADAPTING,
            _CONTROL,
            _TEXT,
        ]
    ).split()
)
"""Operators that any graph or function of a SavedModel may have."""

SAVING = frozenset("MergeV2Checkpoints Save SaveSlices SaveV2".split())
"""Operators by which a SavedModel saves itself again; taken out before it is loaded."""

RESTORING = frozenset(["RestoreV2"])
"""What reads the model's variables, and would read any other checkpoint."""
