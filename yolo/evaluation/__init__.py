"""mAP of detectors, top-1 and top-k of classifiers."""
