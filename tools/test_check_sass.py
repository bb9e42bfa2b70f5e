"""What check_sass.py lets through and what it does not, on disassemblies and reports made by hand."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import check_sass  # noqa: E402  (needs the path above)

BF16 = "_Z10flash_dmoeINS1_4TileILNS1_5DtypeE0ELi1EEEEvP"
FP8 = "_Z10flash_dmoeINS1_4TileILNS1_5DtypeE1ELi2EEEEvP"
OTHER = "_Z6helperv"


def sass(kernel: str, *instructions: str) -> str:
    lines = [f"\t\tFunction : {kernel}", "\t.headerflags\t@\"EF_CUDA_SM90\""]
    for i, instruction in enumerate(instructions):
        lines.append(f"        /*{16 * i:04x}*/                   {instruction} ;    /* 0x0000000000007919 */")
        lines.append("                                                  /* 0x000e220000002100 */")
    return "\n".join(lines) + "\n"


def report(kernel: str, frame: str = "0 0 0", after: str = "") -> str:
    stack, stores, loads = frame.split()
    return (f"ptxas info    : Compiling entry function '{kernel}' for 'sm_90a'\n"
            f"ptxas info    : Function properties for {kernel}\n"
            f"    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads\n"
            f"ptxas info    : Used 168 registers, used 1 barriers\n{after}")


GOOD_SASS = (sass(BF16, "LDC R1, c[0x0][0x28]", "@P0 HGMMA.64x32x16.F32.BF16 R24, gdesc[UR4], R24")
             + sass(FP8, "@!UPT QGMMA.64x32x32.F32.E4M3.E4M3 R24, gdesc[UR4], R24", "EXIT")
             + sass(OTHER, "@!P1 EXIT"))
GOOD_REPORTS = [report(BF16) + report(FP8), report(OTHER)]


def judge(text: str = GOOD_SASS, reports: list[str] | None = None) -> list[str]:
    return check_sass.judge(check_sass.read_sass(text), GOOD_REPORTS if reports is None else reports)


def test_good_kernels_pass():
    assert judge() == []
    kernels = check_sass.read_sass(GOOD_SASS)
    assert kernels[BF16] == {"LDC": 1, "HGMMA": 1}
    assert kernels[FP8] == {"QGMMA": 1, "EXIT": 1}


def test_stack_and_spills():
    for frame in ("16 0 0", "0 4 0", "0 0 8"):
        stack, stores, loads = frame.split()
        assert judge(reports=[report(BF16, frame) + report(FP8), report(OTHER)]) == [
            f"{BF16}: {stack} bytes of stack, {stores} of spill stores, {loads} of spill loads"]


def test_stack_of_a_called_function():
    called = report(BF16) + ("ptxas info    : Function properties for __internal_helper\n"
                             "    24 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n")
    assert judge(reports=[called + report(FP8), report(OTHER)]) == [
        f"{BF16}: 24 bytes of stack, 0 of spill stores, 0 of spill loads"]


def test_local_memory_in_the_code():
    for instruction in ("LDL.64 R2, [R1+0x8]", "@P3 STL [R1], R7"):
        text = GOOD_SASS.replace("@!P1 EXIT", instruction)
        assert judge(text) == [f"{OTHER}: 1 accesses to local memory (LDL, STL)"]


def test_complaints_of_ptxas():
    line = ("ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are "
            f"serialized due to something in the function '{BF16}'")
    assert judge(reports=[GOOD_REPORTS[0] + line, GOOD_REPORTS[1]]) == [f"ptxas: {line}"]
    assert judge(reports=[line + "\n" + GOOD_REPORTS[0], GOOD_REPORTS[1]]) == [f"ptxas: {line}"]
    line = "ptxas warning : 'setmaxnreg' ignored"
    assert judge(reports=[GOOD_REPORTS[0], GOOD_REPORTS[1] + line]) == [f"ptxas: {line}"]


def test_matrix_instruction_of_the_dtype():
    assert judge(GOOD_SASS.replace("HGMMA", "HMMA")) == [f"{BF16}: a bf16 kernel without HGMMA"]
    assert judge(GOOD_SASS.replace("QGMMA", "HGMMA")) == [f"{FP8}: a fp8 kernel without QGMMA"]


def test_missing_kernels_and_reports():
    assert judge(GOOD_SASS.split(f"\t\tFunction : {FP8}")[0], [report(BF16)]) == [
        "no FlashDMoE kernel for fp8 in the library"]
    assert judge(reports=[GOOD_REPORTS[0]]) == [f"{OTHER}: no report of ptxas -v"]
    assert len(judge("", [])) == 2
    renamed = GOOD_SASS.replace("5DtypeE0E", "4KindE0E")
    assert f"{BF16.replace('5DtypeE0E', '4KindE0E')}: its dtype cannot be read from its name" in judge(renamed)


def test_a_kernel_without_instructions():
    assert judge(GOOD_SASS.replace("@!P1 EXIT", "")) == [f"{OTHER}: no instructions in the disassembly"]


def test_reports_of_objects_that_are_gone():
    assert judge(reports=GOOD_REPORTS + [report("_Z3oldv", "8 8 8")]) == []
