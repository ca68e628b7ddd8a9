"""One engine, one model, one process: the worker of contest.py.

    worker.py ENGINE MODEL INPUT.npy OUTPUT.npy THREADS

Speaks the protocol of `fornax bench --stdio`: after the first inference, whose output it saves, it prints
`ready LOAD_S FIRST_S PEAK_RSS_KB BASE_RSS_KB`, then answers every line `run SECONDS MIN_RUNS` with one line `lat MS:CPU_MS ...`
(wall and process milliseconds of each inference), until standard input ends.
"""

import os
import resource
import sys
import time

import numpy


def onnxruntime(path, threads, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)[0]


def openvino(path, threads, x):
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()

    def infer():
        request.infer([x], share_inputs=True)
        return request.get_output_tensor(0).data

    return infer


def litert(path, threads, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if list(into["shape"]) != list(x.shape):
        x = numpy.ascontiguousarray(x.transpose(0, 2, 3, 1))

    def infer():
        interpreter.set_tensor(into["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])

    return infer


def ncnn(path, threads, x):
    import ncnn as engine

    net = engine.Net()
    net.opt.num_threads = threads
    for reduced in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, reduced, False)
    net.load_param(path)
    net.load_model(os.path.splitext(path)[0] + ".bin")
    into, out, image = net.input_names()[0], net.output_names()[0], engine.Mat(x[0])

    def infer():
        run = net.create_extractor()
        run.input(into, image)
        return numpy.array(run.extract(out)[1])

    return infer


def mnn(path, threads, x):
    import MNN

    interpreter = MNN.Interpreter(path)
    session = interpreter.createSession({"numThread": threads, "backend": "CPU", "precision": "high"})
    into, out = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    image = MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe)
    room = numpy.zeros(out.getShape(), numpy.float32)

    def infer():
        into.copyFrom(image)
        interpreter.runSession(session)
        host = MNN.Tensor(out.getShape(), MNN.Halide_Type_Float, room, MNN.Tensor_DimensionType_Caffe)
        out.copyToHostTensor(host)
        return numpy.array(host.getNumpyData())

    return infer


ENGINES = {"onnxruntime": onnxruntime, "openvino": openvino, "litert": litert, "ncnn": ncnn, "mnn": mnn}


def measure(infer, seconds, least):
    times, begun = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - begun < seconds:
        cpu, wall = time.process_time(), time.perf_counter()
        infer()
        wall = time.perf_counter() - wall
        times.append((wall * 1e3, (time.process_time() - cpu) * 1e3))
    return times


def main():
    engine, path, source, target, threads = sys.argv[1:]
    x = numpy.load(source)
    # What engines print themselves goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    infer = ENGINES[engine](path, int(threads), x)
    load = time.perf_counter() - begun
    begun = time.perf_counter()
    y = numpy.asarray(infer())
    first = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    numpy.save(target, y)
    print(f"ready {load:.6f} {first:.6f} {peak} {base}", file=answers, flush=True)
    for line in sys.stdin:
        words = line.split()
        if len(words) != 3 or words[0] != "run":
            print("error expected run SECONDS MIN_RUNS", file=answers, flush=True)
            continue
        times = measure(infer, float(words[1]), int(words[2]))
        print("lat", *(f"{wall:.4f}:{cpu:.4f}" for wall, cpu in times), file=answers, flush=True)


if __name__ == "__main__":
    main()
