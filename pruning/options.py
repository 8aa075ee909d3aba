"""What can be chosen, as plain names: commands list them without importing torch."""

STRATEGIES = {
    "normal": "a global threshold on |γ|; spares what shortcuts touch and what feeds an upsample",
    "regular": "normal, then every count rounded up to a power of two, from 8",
    "shortcut": "everything that can be cut, what shortcuts couple included",
    "tiny": "normal, for networks without shortcuts",
    "slim": "everything; what is coupled stays as long as any of it is above the threshold, and "
    "every layer keeps --layer-keep",
}
BLOCK_STRATEGIES = {
    "layer": "whole residual blocks, --blocks of them or until --target: first those whose branch "
    "ends with the least mean |γ|",
    "slim+layer": "--blocks of them, then slim for what is left; a --target counts both",
}
ALL_STRATEGIES = (
    STRATEGIES
    | BLOCK_STRATEGIES
    | {"bayesian": "the groups of Bayesian sections at or above --thresholds; wants a .pt"}
)
SENSITIVITY, SIGNAL = "sensitivity", "signal"
IMPORTANCES = {
    "bn": "|γ|, the filter's L2 norm without BN",
    "l1": "Σ|w| of the filter",
    "l2": "the filter's L2 norm",
    "fpgm": "distance to the other filters of the section",
    "lamp": "share of the filter's energy among those that are not smaller",
    "bn-next": "bn times the norm of the weights that see the channel",
    "random": "drawn, see --seed",
    "activation": "variance of the channel's output on the images of --calibrate",
    "taylor": "how far the heads move without it, to first order, on these images",
    "least-squares": "how far they move where the weights of the others make up for it as well as "
    "they can",
    SIGNAL: "signal over noise of the filter's weights, of a Bayesian .pt",
    SENSITIVITY: "what a scan found that they lose, see --scan",
}
CALIBRATION_IMAGES = 64
RECOVERIES = {
    "none": "constants of channels are dropped",
    "fold": "constants are kept, see --fold",
    "bn": "outputs get back their means and variances",
    "reconstruct": "weights are solved anew, section by section, by least squares",
}
COMPARISONS = {
    "global": "all with all",
    "layer": "every layer loses the same share",
    "isomorphic": "layers of equal shapes with each other, all shapes lose the same share",
}
GROUP_SCORES = {
    "first": "of the first convolution of a chain",
    "max": "the highest",
    "mean": "the mean",
    "sum": "the sum",
    "union": "a group stays as long as any of its channels is above the threshold",
}
FOLDS = {
    "auto": "exact, but narrow layers take the mean fold where that loses less",
    "exact": "a constant channel wherever zero padding is seen",
    "mean": "all constants into biases, weighted by how often a tap lies inside the map",
    "none": "constants are dropped",
}
ENGINES = {
    "torch": "the masked against the smaller network",
    "opencv": "the written files in OpenCV DNN",
    "darknet": "the written files in a Darknet library",
}
SCHEDULES = {
    "constant": "all the time",
    "global-decay": "a hundredth from half of the epochs on",
    "local-decay": "a hundredth from half of the epochs on for the 15 % largest",
}
PRIORS = {
    "gnj": "group normal-Jeffreys",
    "ghs": "group horseshoe",
}
