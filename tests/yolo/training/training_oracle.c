/* One training step of Darknet, for tests: compiled against its darknet.h, handed its functions. */
#include "darknet.h"

typedef float (*datum_fn)(network, float *, float *);
typedef void (*update_fn)(network);

void train(datum_fn datum, update_fn update, network *net, float *images, float *truth,
           unsigned long long seen) {
    *net->seen = seen; /* of the images before these */
    datum(*net, images, truth);
    if (update) update(*net);
}

float *delta(network *net, int index, int *count) {
    *count = net->layers[index].outputs * net->layers[index].batch;
    return net->layers[index].delta;
}

float cost(network *net, int index) { return net->layers[index].cost[0]; }
