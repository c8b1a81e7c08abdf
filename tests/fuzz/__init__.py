"""Coverage-guided fuzzing of the readers of other people's files, by atheris (pip install atheris).

python -m tests.fuzz.labelme -max_total_time=900        likewise tests.fuzz.configuration, tests.fuzz.images

Further options are libFuzzer's. A finding ends the run and leaves a file fuzz-*, which the same command reads.
"""
