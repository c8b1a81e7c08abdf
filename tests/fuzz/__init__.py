"""Coverage-guided fuzzing of the readers of files from unknown sources, with atheris (pip install atheris).

python -m tests.fuzz.labelme -max_total_time=900        likewise tests.fuzz.configuration, tests.fuzz.images

Other options are those of libFuzzer. A finding ends the run and writes a file fuzz-*; give it to the same command to
repeat the finding.
"""
