"""`python answers.py GRAPH INPUTS.npy OUTPUTS.npy`: what a graph answers, on this processor."""

import sys

import numpy as np
import onnxruntime as ort

if __name__ == "__main__":
    graph, inputs, outputs = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: row[None]})[0][0] for row in np.load(inputs)]
    np.save(outputs, np.stack(rows))
